"""The JSON schema of a dataset's file, for editors: what fields items have, of what types, and which all of them have.

Source: JSON Schema, draft 2020-12, https://json-schema.org/draft/2020-12.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracekeeper.evaluation.item import Item

DRAFT = "https://json-schema.org/draft/2020-12/schema"

DEPTH = 8
"""Levels below an item's fields that are described."""

PROPERTIES = 200
"""Keys of one object that are told apart: an object whose keys are data, such as a count by word, has any."""


class Seen:
    """What values were there at one place."""

    __slots__ = ("count", "items", "objects", "open", "properties", "types")

    def __init__(self) -> None:
        self.count = 0
        self.types: dict[str, None] = {}
        self.objects = 0
        self.properties: dict[str, Seen] = {}
        self.open = False
        self.items: Seen | None = None

    def add(self, value: Any, depth: int = 0) -> None:
        """One more value."""
        self.count += 1
        kind = _kind(value)
        self.types[kind] = None
        if depth >= DEPTH:
            return
        if kind == "object":
            self.objects += 1
            for name, each in value.items():
                if name not in self.properties and len(self.properties) >= PROPERTIES:
                    self.open = True
                    continue
                self.properties.setdefault(name, Seen()).add(each, depth + 1)
        elif kind == "array":
            self.items = self.items or Seen()
            for each in value:
                self.items.add(each, depth + 1)

    def schema(self) -> dict[str, Any]:
        """It as JSON schema."""
        types = [name for name in self.types if not (name == "integer" and "number" in self.types)]
        found: dict[str, Any] = {}
        if types:
            found["type"] = types[0] if len(types) == 1 else types
        if self.objects and not self.open and self.properties:
            found["properties"] = {name: seen.schema() for name, seen in self.properties.items()}
            required = [name for name, seen in self.properties.items() if seen.count == self.objects]
            if required:
                found["required"] = required
        if self.items is not None and self.items.count:
            found["items"] = self.items.schema()
        return found


def schema_of(name: str, items: Iterable[Item]) -> dict[str, Any]:
    """The schema of a list of a dataset's items, in a file. It takes no field that no item has: a typo is marked.

    Example
    -------
    >>> schema = schema_of("d", [Item(id="a", fields={"q": "x", "n": 1}), Item(id="b", fields={"q": "y"})])
    >>> schema["items"]["properties"]["n"], schema["items"]["required"]
    ({'type': 'integer'}, ['q'])
    """
    seen = Seen()
    for item in items:
        seen.add(item.fields)
    fields = seen.schema()
    return around(name, fields, closed=bool(seen.properties) and not seen.open)


def around(name: str, fields: dict[str, Any], *, closed: bool) -> dict[str, Any]:
    """The schema of a list of items whose fields have a schema."""
    own = {
        "id": {"type": ["string", "integer"], "description": "its name in the dataset; by default made of its content"},
        "tags": {"type": ["array", "string"], "items": {"type": "string"}, "description": "what it is grouped by"},
        "split": {"type": "string", "description": "train, test, …"},
    }
    item: dict[str, Any] = {**fields, "type": "object", "properties": {**own, **fields.get("properties", {})}}
    if closed:
        item["additionalProperties"] = False
    definitions = {key: item.pop(key) for key in ("$defs",) if key in item}
    return {"$schema": DRAFT, "title": name, "type": "array", "items": item, **definitions}


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"
