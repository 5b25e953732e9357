"""Results as text for a terminal, Markdown, JSON, CSV, JUnit XML and one static page."""

from tracekeeper.evaluation.reports import files, junit, markdown, page, terminal

__all__ = ["files", "junit", "markdown", "page", "terminal"]
