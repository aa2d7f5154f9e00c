"""The benchmark, in parts that `scripts/bench` starts. Each measures whole processes, and each figure is judged as a ratio."""
