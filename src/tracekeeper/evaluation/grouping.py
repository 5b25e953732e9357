"""Results by group: by tag, by split, by a field of the items, by anything that a function says of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.summary import Totals
from tracekeeper.evaluation.tables import groups_table
from tracekeeper.reading.tables import Table
from tracekeeper.render import show

By = str | Callable[[ItemResult], Any]

_MISSING = object()


class Groups(Mapping[str, Totals]):
    """Totals by the name of a group, in the order in which the groups first come.

    ``note`` says what a reader must know, e.g. that items with several tags are in several groups.
    """

    def __init__(self, by: str, groups: Mapping[str, Totals], note: str | None = None) -> None:
        self.by = by
        self.note = note
        self._groups = dict(groups)

    def __getitem__(self, name: str) -> Totals:
        return self._groups[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def table(self) -> Table[Any]:
        """A row for each group and metric."""
        return groups_table(self.by, self._groups, self.note)

    def print(self, *, file: IO[str] | None = None, width: int | None = None, color: bool | None = None) -> None:
        """Print the table."""
        self.table.print(file=file, width=width, color=color)

    def __repr__(self) -> str:
        return repr(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def grouped(results: Sequence[ItemResult], by: By) -> tuple[str, dict[str, list[ItemResult]], str | None]:
    """What the groups are called by, the calls in each, and what must be known of them.

    Parameters
    ----------
    by:
        ``"tags"`` (an item with several tags is in several groups), ``"split"``, ``"status"``, the name of a field
        (``"a.b"`` for a field within a field), or a function of an ``ItemResult``.

    Raises
    ------
    ValueError
        When no item has the field; the nearest is named.

    Example
    -------
    >>> from tracekeeper.types import ItemStatus
    >>> calls = [ItemResult(item_id=n, status=ItemStatus.OK, tags=tags) for n, tags in (("a", ("x", "y")), ("b", ()))]
    >>> name, groups, note = grouped(calls, "tags")
    >>> {group: len(found) for group, found in groups.items()}, note
    ({'x': 1, 'y': 1, 'no tags': 1}, '1 item has several tags and is in several groups')
    """
    name = by if isinstance(by, str) else getattr(by, "__name__", "group")
    found: dict[str, list[ItemResult]] = {}
    several = set()
    for result in results:
        groups = list(dict.fromkeys(_groups_of(result, by, name)))
        if len(groups) > 1:
            several.add(result.item_id)
        for group in groups:
            found.setdefault(group, []).append(result)
    if isinstance(by, str) and by not in ("tags", "split", "status"):
        _check_field(results, by)
    note = None
    if several:
        has = "item has several tags and is" if len(several) == 1 else "items have several tags and are"
        note = f"{len(several):,} {has} in several groups"
    return name, found, note


def _groups_of(result: ItemResult, by: By, name: str) -> list[str]:
    if not isinstance(by, str):
        return [show(by(result), f"no {name}")]
    match by:
        case "tags":
            return list(result.tags) or ["no tags"]
        case "split":
            return [result.split or "no split"]
        case "status":
            return [str(result.status)]
    value = _field(result.fields, by)
    return [show(None if value is _MISSING else value, f"no {name}")]


def _field(fields: Any, path: str) -> Any:
    if isinstance(fields, Mapping):
        if path in fields:
            return fields[path]
        first, dot, rest = path.partition(".")
        if dot and first in fields:
            return _field(fields[first], rest)
    return _MISSING


def _check_field(results: Sequence[ItemResult], name: str) -> None:
    if not results or any(_field(result.fields, name) is not _MISSING for result in results):
        return
    known = sorted({str(field) for result in results for field in result.fields} | {"tags", "split", "status"})
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"
    raise ValueError(f"no item has a field {name!r}{hint}")
