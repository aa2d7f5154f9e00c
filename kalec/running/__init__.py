"""Pipelines run here, without a cluster: each step in a process of its own, and nothing done twice."""
