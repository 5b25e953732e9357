"""Items of whatever a user has: dictionaries, models, values, a data frame, a dataset, anything that is iterated.

Everything is streamed: an item at a time, so an endless iterable is taken as it is needed. What is wrong is said with
the item's position, counted from 1.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import orjson

from tracekeeper.evaluation.datasets.plain import mapping_of, plain
from tracekeeper.evaluation.item import Item, item_id
from tracekeeper.types import DatasetError

_APART = ("id", "tags", "split")


class Distinct:
    """Items whose ids are known to differ, as those of a dataset: nobody needs to remember them."""


def items_of(thing: Any) -> Iterator[Item]:
    """The items of a list, a data frame, a dataset, or anything else that can be iterated, with ids that differ.

    Parameters
    ----------
    thing:
        Of dictionaries, ``Item``s, models (pydantic, msgspec, dataclasses), or any values: what has no fields is
        ``{"input": it}``. The fields ``id``, ``tags`` and ``split`` are taken out. An item without one is named by
        its content; the second and third with the same content by ``…-2``, ``…-3``.

    Raises
    ------
    DatasetError
        It cannot be iterated; two items have the same ``id``; something cannot be kept as JSON. While it is iterated.

    Example
    -------
    >>> [(item.id, item.fields) for item in items_of([{"id": "a", "question": "1 + 1?"}, {"id": "b", "expected": "2"}])]
    [('a', {'question': '1 + 1?'}), ('b', {'expected': '2'})]
    >>> [item.id for item in items_of(["same", "same"])]
    ['9bf2968f778c0ba6', '9bf2968f778c0ba6-2']
    """
    if isinstance(thing, Distinct):
        assert isinstance(thing, Iterable)
        yield from thing
        return
    positions: dict[str, int] = {}
    for position, (item, given) in enumerate(read_items(thing), 1):
        if item.id not in positions:
            positions[item.id] = position
            yield item
        elif given:
            raise DatasetError(f"items {positions[item.id]:,} and {position:,} have the same id, {item.id!r}")
        else:
            number = 2
            while (name := f"{item.id}-{number}") in positions:
                number += 1
            positions[name] = position
            yield Item(id=name, fields=item.fields, tags=item.tags, split=item.split)


def read_items(thing: Any) -> Iterator[tuple[Item, bool]]:
    """The items of something, whatever their ids are, and whether each id was given rather than made.

    Raises as :func:`items_of`, but for ids.
    """
    for position, raw in enumerate(raw_items(thing), 1):
        try:
            yield item_of(raw)
        except DatasetError as error:
            raise DatasetError(f"item {position:,}: {error}") from error


def item_of(raw: Any) -> tuple[Item, bool]:
    """One value as an item, and whether its id was given.

    Raises
    ------
    DatasetError
        Its ``id``, ``tags`` or ``split`` is none; something in it cannot be kept as JSON.
    """
    if isinstance(raw, Item):
        fields = plain(raw.fields)
        if not isinstance(fields, dict):
            raise DatasetError(f"fields of an Item must be a mapping, not a {type(raw.fields).__name__}")
        taken = [name for name in _APART if name in fields]
        if taken:
            raise DatasetError(
                f"its fields hold {taken[0]!r}, which is an attribute of an Item; give that one another name"
            )
        name, tags, split = _name(raw.id), _tags(raw.tags), _split(raw.split)
    else:
        found = mapping_of(raw)
        fields = plain({"input": raw} if found is None else dict(found))
        name, tags, split = (read(fields.pop(key, None)) for key, read in zip(_APART, _READERS, strict=True))
    if not fields:
        raise DatasetError("it has no fields besides id, tags and split")
    return Item(id=name or item_id(fields), fields=fields, tags=tags, split=split), bool(name)


def raw_items(thing: Any) -> Iterator[Any]:
    """What somebody has, one thing at a time, not yet looked at.

    Raises
    ------
    DatasetError
        It is nothing that holds items; the message says what to give instead.
    """
    rows = getattr(thing, "iter_rows", None)  # polars
    if callable(rows):
        return iter(rows(named=True))
    tuples = getattr(thing, "itertuples", None)  # pandas
    if callable(tuples):
        names = [str(name) for name in thing.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DatasetError(f"the data frame has more than one column {twice[0]!r}; rename one")
        return (dict(zip(names, values, strict=True)) for values in tuples(index=False, name=None))
    if isinstance(thing, Mapping):
        if thing and all(hasattr(part, "column_names") for part in thing.values()):
            return _of_splits(thing)  # a DatasetDict of Hugging Face
        raise DatasetError("a mapping is one item, not a list of items; put it into a list: [{…}]")
    if isinstance(thing, str | bytes | PurePath):
        raise DatasetError(
            f"expected items, not {'a path' if isinstance(thing, PurePath) else 'text'}; put texts into a list, "
            "read a file by tk.Dataset.from_jsonl(name, path) (or from_csv, from_json, from_yaml, from_parquet)"
        )
    if isinstance(thing, type):
        raise DatasetError(f"expected items, not the class {thing.__name__}; give instances in a list")
    if isinstance(thing, AsyncIterable):
        raise DatasetError("an async iterable cannot be read here; collect it first: [item async for item in …]")
    if mapping_of(thing) is not None:
        raise DatasetError(f"a {type(thing).__name__} is one item, not a list of items; put it into a list")
    try:
        return iter(thing)
    except TypeError:
        raise DatasetError(
            f"expected a list of items, a data frame or a dataset, not a {type(thing).__name__}"
        ) from None


def _of_splits(splits: Mapping[Any, Iterable[Any]]) -> Iterator[Any]:
    for split, part in splits.items():
        for row in part:
            yield {**row, "split": str(split)} if isinstance(row, Mapping) else row


def _name(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DatasetError(f"id {value!a}: text that UTF-8 cannot hold") from None
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DatasetError(f"id={_short(value)}: expected text or a whole number")


def _tags(value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(each, str) and each for each in found):
        raise DatasetError(f"tags={_short(value)}: expected a list of texts")
    return tuple(dict.fromkeys(found))


def _split(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DatasetError(f"split={_short(value)}: expected text, such as 'train' or 'test'")
    return value


_READERS: tuple[Callable[[Any], Any], ...] = (_name, _tags, _split)


def _short(value: Any) -> str:
    text = orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS).decode(errors="replace")
    return text if len(text) <= 60 else f"{text[:59]}…"
