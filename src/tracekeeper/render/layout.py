"""Tables and lists laid out for a terminal's width.

Columns take the room they need; when the line is too short the widest ones give way first, and what does not fit
ends in ``…``. When even that is hopeless (many columns, a narrow terminal) each row becomes a list of its own.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tracekeeper.render.cells import show
from tracekeeper.render.colors import STATUSES, bold, color_status, dim, should_color
from tracekeeper.render.formats import NONE
from tracekeeper.render.width import clean, display_width, pad, truncate

GAP = "  "
NARROWEST = 6
"""Cells that a column is squeezed to at most."""

_unit = r"(?:%|[a-z]{1,2}(?:[0-9]+[a-z]{1,2})?)"
_numeric = re.compile(rf"[-+<$]?[0-9][0-9,.]*(?:e[+-]?[0-9]+)?{_unit}?|true|false")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, its side (``None``: numbers right, the rest left), and what a missing value is called."""

    title: str
    align: Literal["left", "right"] | None = None
    missing: str = NONE


def render_table(
    columns: Sequence[Column | str],
    rows: Iterable[Sequence[Any]],
    *,
    width: int | None = None,
    color: bool | None = None,
) -> str:
    """A table as text, without a line end.

    Parameters
    ----------
    columns:
        Titles, or columns with more to say.
    rows:
        Values or ready text, as many in each row as there are columns. No cell is left blank.
    width:
        Cells that a line may take; default: the terminal's width.
    color:
        Whether statuses are coloured; default: on a terminal, unless ``NO_COLOR`` is set.

    Raises
    ------
    ValueError
        When a row has more or fewer cells than there are columns.

    Example
    -------
    >>> print(render_table(["app", "n"], [["rag 1.2", 1200], ["東京", 7]], width=40))
    app          n
    ───────  ─────
    rag 1.2  1,200
    東京         7
    """
    kinds = [column if isinstance(column, Column) else Column(column) for column in columns]
    cells = [_cells(kinds, row, number) for number, row in enumerate(rows, start=1)]
    if not kinds:
        return ""
    width = _terminal_width() if width is None else width
    color = should_color() if color is None else color
    titles = [clean(kind.title) or NONE for kind in kinds]
    natural = [max([display_width(title), *(display_width(row[i]) for row in cells)]) for i, title in enumerate(titles)]
    widths = _squeezed(natural, width - len(GAP) * (len(kinds) - 1))
    if widths is None:
        return _stacked(titles, cells, width, color)
    aligns = [_align(kind, [row[i] for row in cells]) for i, kind in enumerate(kinds)]
    head = _line(titles, widths, aligns)
    rule = GAP.join("─" * column for column in widths)
    lines = [bold(head) if color else head, dim(rule) if color else rule]
    lines += [_line(row, widths, aligns, color) for row in cells]
    return "\n".join(lines)


def render_key_values(
    pairs: Mapping[str, Any] | Iterable[tuple[str, Any]], *, width: int | None = None, color: bool | None = None
) -> str:
    """Names and values, one pair a line, without a line end.

    Example
    -------
    >>> print(render_key_values({"status": "ok", "error": None}, width=40))
    status  ok
    error   none
    """
    items = list(pairs.items()) if isinstance(pairs, Mapping) else list(pairs)
    shown = [(clean(str(name)) or NONE, show(value)) for name, value in items]
    if not shown:
        return ""
    width = _terminal_width() if width is None else width
    color = should_color() if color is None else color
    names = min(max(display_width(name) for name, _ in shown), max(width // 2 - len(GAP), 1))
    room = max(width - names - len(GAP), 1)
    lines = []
    for name, value in shown:
        title, text = pad(truncate(name, names), names), truncate(value, room)
        lines.append(f"{dim(title)}{GAP}{color_status(text)}" if color else f"{title}{GAP}{text}")
    return "\n".join(lines)


def _cells(kinds: Sequence[Column], row: Sequence[Any], number: int) -> list[str]:
    if len(row) != len(kinds):
        raise ValueError(f"row {number} has {len(row)} cells for {len(kinds)} columns")
    return [show(value, kind.missing) for kind, value in zip(kinds, row, strict=True)]


def _align(kind: Column, cells: Sequence[str]) -> Literal["left", "right"]:
    if kind.align is not None:
        return kind.align
    numbers = [_numeric.fullmatch(cell) is not None for cell in cells]
    words = {kind.missing, *STATUSES}
    all_short = all(number or cell in words for number, cell in zip(numbers, cells, strict=True))
    return "right" if any(numbers) and all_short else "left"


def _line(cells: Sequence[str], widths: Sequence[int], aligns: Sequence[Any], color: bool = False) -> str:
    padded = [pad(truncate(cell, w), w, align) for cell, w, align in zip(cells, widths, aligns, strict=True)]
    padded[-1] = padded[-1].rstrip()
    return GAP.join(color_status(cell) if color else cell for cell in padded)


def _squeezed(natural: Sequence[int], room: int) -> list[int] | None:
    """Widths that fit into the room, or ``None``: the widest columns share what is missing."""
    if sum(natural) <= room:
        return list(natural)
    if sum(min(column, NARROWEST) for column in natural) > room:
        return None
    # The largest cap on all columns that fits; what is left over goes to the columns it cut, from the left.
    low, high = NARROWEST, max(natural)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(column, middle) for column in natural) <= room:
            low = middle
        else:
            high = middle - 1
    widths = [min(column, low) for column in natural]
    spare = room - sum(widths)
    for index, column in enumerate(natural):
        if spare and widths[index] < column:
            widths[index] += 1
            spare -= 1
    return widths


def _stacked(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int, color: bool) -> str:
    if not rows:
        return truncate(" ".join(titles), max(width, 1))
    blocks = [render_key_values(zip(titles, row, strict=True), width=width, color=color) for row in rows]
    return "\n\n".join(blocks)


def _terminal_width() -> int:
    return shutil.get_terminal_size(fallback=(100, 24)).columns
