"""Datasets, experiments and what their results say. See ``docs/design/evaluation.md``."""
