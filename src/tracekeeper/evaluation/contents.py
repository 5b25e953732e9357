"""What the items of a run held: written down with it, so that a resume knows whether they are the same.

An id that is made of the content says that by itself. One that somebody gave does not: ``q1`` of another dataset, or of
this one after a correction, would be told the outcome of what it was before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tracekeeper.evaluation.item import Item, item_id


def contents_of(items: Iterable[Item]) -> list[str]:
    """16 hex digits for each item, made of its fields; ``""`` where its id is just that. Tags and split do not count.

    >>> contents_of([Item(id="q1", fields={"n": 1}), Item(id="2bfd14f43d17fc7c", fields={"n": 1}, tags=("new",))])
    ['2bfd14f43d17fc7c', '']
    """
    return ["" if content == item.id else content for item in items for content in (item_id(item.fields),)]


def changed(ids: Sequence[str], contents: Sequence[str], now: Mapping[str, Item]) -> list[str]:
    """The ids of items that hold something else now. ``contents`` may be empty: it was not written down."""
    known = zip(ids, contents, strict=False)
    return [name for name, content in known if name in now and item_id(now[name].fields) != (content or name)]
