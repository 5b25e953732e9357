"""Templates for people: tables, key-value lists and numbers as text for a terminal. Uses no third-party package."""

from tracekeeper.render.cells import aggregate_cell, score_cell, show
from tracekeeper.render.colors import should_color
from tracekeeper.render.formats import (
    format_cost,
    format_duration,
    format_number,
    format_time,
    plural,
)
from tracekeeper.render.layout import Column, render_key_values, render_table
from tracekeeper.render.width import clean, display_width, pad, truncate

__all__ = [
    "Column",
    "aggregate_cell",
    "clean",
    "display_width",
    "format_cost",
    "format_duration",
    "format_number",
    "format_time",
    "pad",
    "plural",
    "render_key_values",
    "render_table",
    "score_cell",
    "should_color",
    "show",
    "truncate",
]
