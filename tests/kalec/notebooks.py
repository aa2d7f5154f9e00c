"""Notebooks for tests: cells with tags, as a file."""

import json


def write_notebook(path, *cells, **metadata):
    """Write a notebook of (tags, source) cells, where tags are one text of words; return its path."""
    told = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {"tags": tags.split()}, "source": source, "outputs": []}
        for n, (tags, source) in enumerate(cells, 1)
    ]
    whole = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kubeflow_notebook": metadata}, "cells": told}
    path.write_text(json.dumps(whole))
    return path
