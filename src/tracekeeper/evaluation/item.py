"""One input of a dataset, with whatever belongs to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An item of a dataset.

    Attributes
    ----------
    id:
        Its name within the dataset: given by the user, else ``item_id(fields)``.
    fields:
        All of the item: what the task gets and, if there is one, ``expected``. Plain data.
    tags:
        What it is grouped by.
    split:
        Of its dataset: ``train``, ``test``, …; ``""``: none.

    Example
    -------
    >>> item = Item(id="paris", fields={"question": "capital of France?", "expected": "Paris"})
    >>> item.inputs, item.expected
    ({'question': 'capital of France?'}, 'Paris')
    """

    id: str
    fields: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    split: str = ""

    @property
    def expected(self) -> Any:
        """What should come out, or ``None``."""
        return self.fields.get("expected", self.fields.get("reference"))

    @property
    def inputs(self) -> dict[str, Any]:
        """The fields without what should come out."""
        return {name: value for name, value in self.fields.items() if name not in ("expected", "reference")}


def item_id(fields: Mapping[str, Any]) -> str:
    """The id of an item that has none of its own: 16 hex digits of the SHA-256 of its fields as sorted JSON.

    Raises
    ------
    TypeError
        A value has no form in JSON.

    Example
    -------
    >>> item_id({"a": 1, "b": 2}) == item_id({"b": 2, "a": 1})
    True
    """
    text = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(text).hexdigest()[:16]
