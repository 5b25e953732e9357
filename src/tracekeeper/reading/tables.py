"""``Table``: what every reading function returns.

A sequence of objects (records, standings, plain mappings) that also prints well, shows itself in a notebook, and goes
to pandas, JSON and CSV. It is complete when it is returned: nothing is read later, so nothing can differ between two
looks.
"""

from __future__ import annotations

import csv
import html
import io
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, overload

from tracekeeper.reading.columns import Column, json_text
from tracekeeper.reading.frames import frame_of
from tracekeeper.render import clean, display_width, plural, render_key_values, render_table, should_color, truncate

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")

REPR_ROWS = 20
"""Rows that ``repr`` and a notebook show; ``print`` shows all."""

COMFORTABLE = 12
"""Cells that a column gets at least when the terminal is narrow, or as many as its title needs."""

GAP = 2

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that spreadsheets take for a formula."""
_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)*([eE][+-]?[0-9]+)?%?")


class Section(NamedTuple):
    """A part of what ``print`` shows: a heading (may be empty), column names, and cells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    ranks: Sequence[int] = ()
    whole: Sequence[bool] = ()


class Table(Sequence[T], Generic[T]):
    """Rows as objects, with columns as plain data.

    Indexing and iterating give the objects; a slice is a table again. ``columns`` and ``rows`` give plain data:
    numbers, text, ``None`` (of a score only beside a status that says why). ``note`` says what a reader must know about
    the rows, e.g. that something journaled could not be stored in time; ``None`` when there is nothing to say.

    Example
    -------
    >>> table = Table([{"n": 1}, {"n": 2}], [Column("n", lambda row: row["n"], "integer")])
    >>> len(table), table.columns, table.rows, table[:1].to_dicts()
    (2, ['n'], [(1,), (2,)], [{'n': 1}])
    """

    def __init__(
        self,
        items: Iterable[T],
        columns: Sequence[Column[T]],
        *,
        noun: str = "row",
        note: str | None = None,
        footer: Callable[[Sequence[T]], list[str]] | None = None,
        sections: Callable[[Sequence[T]], list[Section]] | None = None,
    ) -> None:
        self._items = list(items)
        self._columns = tuple(columns)
        self._noun = noun
        self._footer = footer
        self._sections = sections
        self.note = note

    # A sequence of the objects.

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    @overload
    def __getitem__(self, position: int) -> T: ...
    @overload
    def __getitem__(self, position: slice) -> Table[T]: ...
    def __getitem__(self, position: int | slice) -> T | Table[T]:
        if isinstance(position, slice):
            return self._with(self._items[position])
        return self._items[position]

    def _with(self, items: Sequence[T]) -> Table[T]:
        return Table(
            items, self._columns, noun=self._noun, note=self.note, footer=self._footer, sections=self._sections
        )

    # Plain data.

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self._columns]

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The values, one tuple a row, in the order of ``columns``."""
        return [tuple(column.value(item) for column in self._columns) for item in self._items]

    @property
    def shown(self) -> list[str]:
        """The names of the columns that people see."""
        return [column.name for column in self._columns if column.shown]

    def cells(self) -> list[tuple[str, ...]]:
        """What people see of each row, in the order of ``shown``."""
        shown = [column for column in self._columns if column.shown]
        return [tuple(column.cell(item) for column in shown) for item in self._items]

    def to_dicts(self) -> list[dict[str, Any]]:
        """The values, one mapping a row."""
        names = self.columns
        return [dict(zip(names, row, strict=True)) for row in self.rows]

    def to_json(self, *, indent: int = 0) -> str:
        """A JSON list with an object for each row; times as ISO 8601 in UTC, missing values as ``null``."""
        return json_text(self.to_dicts(), indent=indent)

    def to_csv(self, path: str | Path | None = None, *, formulas: bool = False) -> str | None:
        """Write a CSV file (RFC 4180, UTF-8); without ``path`` return its text.

        Lists and mappings are written as JSON. A missing value is an empty field.

        Parameters
        ----------
        path:
            Where to.
        formulas:
            By default a text that a spreadsheet would take for a formula and compute (``=HYPERLINK(…)`` in the answer
            of a model) gets an apostrophe before it, as OWASP's page on CSV injection advises; ``True``: written as
            it is, for programs.
        """
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer)
        value_of = _csv_value if formulas else _for_spreadsheets
        writer.writerow([value_of(name) for name in self.columns])
        writer.writerows([value_of(value) for value in row] for row in self.rows)
        if path is None:
            return buffer.getvalue()
        Path(path).write_text(buffer.getvalue(), encoding="utf-8", newline="")
        return None

    def to_pandas(self) -> pandas.DataFrame:
        """A DataFrame with nullable types (Float64, Int64, boolean, string): what is missing is ``<NA>``, never NaN.

        Raises
        ------
        MissingExtraError
            When pandas is not installed.
        """
        return frame_of([(column.name, column.type) for column in self._columns], self.rows)

    # For people.

    def print(self, *, file: IO[str] | None = None, width: int | None = None, color: bool | None = None) -> None:
        """Print all rows, then what they add up to.

        Parameters
        ----------
        file:
            Default: standard output.
        width:
            Characters a line may have; default: that of the terminal.
        color:
            Default: when the output is a terminal.
        """
        file = file or sys.stdout
        print(self.text(width=width, color=should_color(file) if color is None else color), file=file)

    def text(self, *, rows: int | None = None, width: int | None = None, color: bool | None = None) -> str:
        """What ``print`` prints; at most ``rows`` rows when that is given."""
        items = self._items if rows is None else self._items[:rows]
        lines = [
            text
            for section in (self._sections or self._plain)(items)
            if (text := _section_text(section, width=width, color=color))
        ]
        if len(items) < len(self._items):
            lines.append(f"… and {plural(len(self._items) - len(items), self._noun)} more")
        if not self._items:
            lines = [f"no {self._noun}s"]
        closing = self._closing()
        return "\n".join([*lines, *([""] if closing else []), *closing])

    def _plain(self, items: Sequence[T]) -> list[Section]:
        shown = [column for column in self._columns if column.shown]
        rows = [[column.cell(item) for column in shown] for item in items]
        ranks, whole = [column.rank for column in shown], [column.whole for column in shown]
        return [Section("", [column.name for column in shown], rows, ranks, whole)]

    def _closing(self) -> list[str]:
        footer = self._footer(self._items) if self._footer is not None else []
        return [*footer, *([f"note: {self.note}"] if self.note else [])]

    def __str__(self) -> str:
        return self.text(color=False)

    def __repr__(self) -> str:
        return self.text(rows=REPR_ROWS, color=False)

    def _repr_html_(self) -> str:
        parts = []
        for section in (self._sections or self._plain)(self._items[:REPR_ROWS]):
            heading = f"<p><b>{html.escape(section.title)}</b></p>" if section.title else ""
            head = "".join(f"<th>{html.escape(name)}</th>" for name in section.columns)
            body = "".join(
                f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in section.rows
            )
            parts.append(f"{heading}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        if len(self._items) > REPR_ROWS:
            parts.append(f"<p>… and {plural(len(self._items) - REPR_ROWS, self._noun)} more</p>")
        parts += [f"<p>{html.escape(line)}</p>" for line in self._closing()]
        return "".join(parts) if self._items else f"<p>no {html.escape(self._noun)}s</p>" + "".join(parts[1:])


def _section_text(section: Section, *, width: int | None, color: bool | None) -> str:
    lines = [section.title] if section.title else []
    if not section.rows:
        return "\n".join(lines)
    width = shutil.get_terminal_size(fallback=(100, 24)).columns if width is None else width
    widths = fitting(section, width)
    if widths:
        columns = [section.columns[i] for i in widths]
        rows = [[truncate(clean(row[i]), room) for i, room in widths.items()] for row in section.rows]
        lines.append(render_table(columns, rows, width=width, color=color))
        left_out = [name for i, name in enumerate(section.columns) if i not in widths]
        if left_out:
            lines.append(f"left out for width: {', '.join(left_out)}")
    else:
        pairs = (list(zip(section.columns, row, strict=True)) for row in section.rows)
        lines.append("\n\n".join(render_key_values(row, width=width, color=color) for row in pairs))
    return "\n".join(lines)


def fitting(section: Section, width: int) -> dict[int, int]:
    """Which columns to show side by side, and how many cells each gets: no title is cut, nor a cell of a whole column.

    Columns of the highest rank give way first, then long cells. Nothing when even the columns of rank 0 do not fit;
    each row is then shown as a list of its own.
    """
    titles = [display_width(name) for name in section.columns]
    natural = [max(title, *(display_width(clean(row[i])) for row in section.rows)) for i, title in enumerate(titles)]
    for i, whole in enumerate(section.whole):
        titles[i] = natural[i] if whole else titles[i]
    ranks = section.ranks or [0] * len(titles)
    kept = list(range(len(titles)))

    def room(cap: int) -> int:
        return sum(min(natural[i], max(titles[i], cap)) + GAP for i in kept) - GAP

    while kept and room(COMFORTABLE) > width:
        last = max(kept, key=lambda i: ranks[i])
        if ranks[last] == 0:
            return {}
        kept.remove(last)
    cap = max(range(COMFORTABLE, max(width, COMFORTABLE) + 1), key=lambda cap: cap if room(cap) <= width else 0)
    return {i: min(natural[i], max(titles[i], cap)) for i in kept}


def _for_spreadsheets(value: Any) -> Any:
    """What a cell shows and never computes. A number that is text, such as ``-3`` or ``+1.5e3``, computes nothing.

    >>> [_for_spreadsheets(value) for value in ("=1+1", "-3", -3, "- a point", "@SUM(A1)", "Paris")]
    ["'=1+1", '-3', -3, "'- a point", "'@SUM(A1)", 'Paris']
    """
    value = _csv_value(value)
    if not isinstance(value, str) or not value.startswith(_FORMULA) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def _csv_value(value: Any) -> Any:
    return json_text(value) if isinstance(value, list | tuple | dict) else value
