"""A span's attributes, and lists that were flattened into indexed keys put together again.

Attributes of OpenTelemetry were scalars and flat lists for a long time, so OpenInference and OpenLLMetry write a list
of messages as ``llm.input_messages.0.message.role`` and so on. An SDK that allows 128 attributes drops the oldest of
them, so indices may begin anywhere and have gaps: what is there comes in order.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracekeeper.conventions.values import filled, plain

_PARTS = 24


class Attributes:
    """Attributes by key, and as the trees that their keys spell.

    Example
    -------
    >>> given = Attributes({"m.list.1.role": "user", "m.list.0.role": "system", "m.list.0.tags.9": "x"})
    >>> given.under("m.list")
    [{'role': 'system', 'tags': ['x']}, {'role': 'user'}]
    """

    __slots__ = ("_heads", "_keys", "all")

    def __init__(self, given: Mapping[Any, Any] | None) -> None:
        self.all: dict[str, Any] = {plain(key): value for key, value in (given or {}).items() if isinstance(key, str)}
        # Most prefixes are not there: one pass over the keys spares a pass for each prefix that is asked for.
        self._heads = {_head(key) for key in self.all}
        self._keys = self.all.keys()

    def get(self, key: str) -> Any:
        """The value of a key; ``None`` when it is missing or empty."""
        value = self.all.get(key)
        return value if filled(value) else None

    def has_any(self, keys: Iterable[str]) -> bool:
        """Whether one of these keys is there. One call in C: of the table's keys a span has a few."""
        return not self._keys.isdisjoint(keys)

    def first(self, keys: Iterable[str]) -> Any:
        """The first value that is not empty."""
        if self._keys.isdisjoint(keys):
            return None
        return next((value for key in keys if (value := self.get(key)) is not None), None)

    def may_have(self, prefix: str) -> bool:
        """Whether there may be keys below ``prefix``."""
        return _head_of_prefix(prefix) in self._heads

    def below(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """The keys below ``prefix``, without it, and their values."""
        if _head_of_prefix(prefix) in self._heads:
            dotted = prefix + "."
            for key, value in self.all.items():
                if key.startswith(dotted):
                    yield key[len(dotted) :], value

    def under(self, prefix: str) -> Any:
        """The tree of the keys below ``prefix``: a list where all keys are indices, else a dict; ``None``: nothing."""
        tree: dict[str, Any] = {}
        for key, value in self.below(prefix):
            parts = key.split(".", _PARTS)
            node = tree
            for part in parts[:-1]:
                deeper = node.get(part)
                if not isinstance(deeper, _Node):
                    deeper = node[part] = _Node()  # a value in the way of a tree says less than the tree
                node = deeper
            if not isinstance(node.get(parts[-1]), _Node):
                node[parts[-1]] = value
        return _grown(tree) if tree else None


def _head(key: str) -> str:
    """A key's first two parts."""
    first = key.find(".")
    second = key.find(".", first + 1) if first >= 0 else -1
    return key if second < 0 else key[:second]


_head_of_prefix = functools.cache(_head)  # prefixes are few: they are the table's


class _Node(dict[str, Any]):
    """A branch; other dicts are values."""


def _grown(node: dict[str, Any]) -> Any:
    grown = {key: _grown(value) if isinstance(value, _Node) else value for key, value in node.items()}
    if all(key.isdecimal() and len(key) < 10 for key in grown):
        return [grown[key] for key in sorted(grown, key=int)]
    return grown
