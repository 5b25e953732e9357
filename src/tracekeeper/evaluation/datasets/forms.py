"""Items as the store has them, and back."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import orjson

from tracekeeper.evaluation.item import Item
from tracekeeper.store.datasets.rows import ItemRow, NewItem


def new_item(item: Item) -> NewItem:
    """An item for the store, with the hash of all that is in it."""
    return NewItem(
        item=item.id,
        hash=content_hash(item),
        fields=orjson.dumps(item.fields).decode(),
        tags=orjson.dumps(item.tags).decode() if item.tags else None,
        split=item.split,
    )


def content_hash(item: Item) -> str:
    """64 hex digits that are the same for the same id, fields, tags (in any order) and split.

    >>> a, b = (Item(id="i", fields={"q": 1}, tags=tags) for tags in (("x", "y"), ("y", "x")))
    >>> content_hash(a) == content_hash(b)
    True
    """
    whole = [item.id, item.fields, sorted(item.tags), item.split]
    return hashlib.sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()


def item_of_row(row: ItemRow | NewItem) -> Item:
    """An item from the store."""
    return Item(id=row.item, fields=orjson.loads(row.fields), tags=tags_of(row.tags), split=row.split)


def tags_of(text: str | None) -> tuple[str, ...]:
    """Tags as the store has them."""
    return tuple(orjson.loads(text)) if text else ()


def differing_parts(old: Item, new: Item) -> list[str]:
    """What differs between two items: names of fields, ``tags``, ``split``.

    >>> differing_parts(Item(id="i", fields={"q": 1, "e": 2}), Item(id="i", fields={"q": 1, "e": 3}, split="test"))
    ['e', 'split']
    """
    missing: Any = msgspec.UNSET
    names = dict.fromkeys((*old.fields, *new.fields))
    parts = [name for name in names if old.fields.get(name, missing) != new.fields.get(name, missing)]
    parts += ["tags"] * (set(old.tags) != set(new.tags))
    return parts + ["split"] * (old.split != new.split)
