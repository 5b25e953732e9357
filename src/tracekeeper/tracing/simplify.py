"""Any object as plain JSON data, within a budget of bytes.

The walk stops when the budget is spent, so a list of fifty million numbers costs what its first megabyte costs. Nothing
of the object is changed or consumed: generators, files and locks are only named. Attributes, iteration and ``repr`` are
the object's own code and may do anything, so each is tried alone and replaced by a note of what went wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import orjson

from tracekeeper.tracing import objects
from tracekeeper.tracing.masking import HIDDEN, KeyMask

DEPTH = 40
SLACK = 256
"""Bytes that markers may add beyond the limit."""
_EXACT = 1 << 24
_INT_BITS = 8192
_NUMBERS = {int, float, bool, type(None)}


def simplify(value: Any, limit: int, keys: KeyMask, whole: int = 0) -> tuple[Any, int]:
    """Plain data of about ``limit`` bytes of JSON at most, and the estimated full size if something was cut, else 0.

    ``whole``: of a text that was cut before, how many characters it had.
    """
    walk = Walk(limit, keys, whole)
    plain = walk.value(value, 0)
    if not walk.cut:
        return plain, 0
    if walk.only_depth:
        return plain, max(limit - walk.left, 1)
    return plain, max(
        walk.exact if isinstance(value, str | bytes) and walk.exact else limit - walk.left + walk.missing, limit
    )


class Walk:
    """One walk over one value: what is left of the budget, and what had to be left out."""

    __slots__ = ("cut", "exact", "keys", "left", "missing", "only_depth", "path", "whole")

    def __init__(self, limit: int, keys: KeyMask, whole: int = 0) -> None:
        self.whole = whole
        self.left = limit
        self.keys = keys
        self.path: set[int] = set()
        self.cut = False
        self.only_depth = True
        self.missing = 0
        self.exact = 0

    def value(self, value: Any, depth: int) -> Any:
        """The plain form of one value. Raises nothing but ``KeyboardInterrupt``."""
        kind = type(value)
        if kind is str:
            return self.text(value)
        if value is None or kind is bool:
            self.left -= 4
            return value
        if kind is int:
            return self.integer(value)
        if kind is float:
            return self.number(value)
        if depth > DEPTH:
            self.cut = True
            return f"… [cut: nested deeper than {DEPTH} levels]"
        identity = id(value)
        if identity in self.path:
            return "<cycle>"
        self.path.add(identity)
        try:
            if kind is dict:
                return self.mapping(dict.items(value), len(value), depth)
            if kind is list or kind is tuple:
                return self.sequence(value, len(value), depth)
            return objects.plain(self, value, kind, depth)
        except KeyboardInterrupt:
            raise
        except RecursionError:
            return "<too deep to be captured>"
        except BaseException as error:  # noqa: BLE001
            return self.text(f"<{kind.__name__}: {type(error).__name__} while it was captured>")
        finally:
            self.path.discard(identity)

    def integer(self, value: int) -> Any:
        """An int as a number, unless it is astronomically long."""
        value = int(value)
        bits = value.bit_length()
        if bits > _INT_BITS:  # converting takes quadratic time, and Python refuses beyond 4,300 digits
            return self.text(f"<int of {bits} bits>")
        self.left -= 3 + bits // 3
        return value

    def number(self, value: float) -> Any:
        """A float as a number; what JSON has no number for as text."""
        value = float(value)
        self.left -= 8
        if math.isfinite(value):
            return value
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"

    def text(self, value: str) -> str:
        """A str, cut so that its JSON fits into what is left."""
        left = max(self.left, 0)
        length = self.whole or len(value)
        if length <= left or length <= 16:
            clean = escaped(value)
            size = len(orjson.dumps(clean))
            if size <= left or length <= 16:
                self.left -= size
                return clean
        kept = escaped(value[:left])
        while (size := len(orjson.dumps(kept))) > left and kept:
            kept = kept[: min(len(kept) * left // size, len(kept) - 1)]
        self.exact = text_size(value) * length // max(len(value), 1)
        self.missed(self.exact - len(kept.encode()))
        self.left = 0
        return f"{kept}… [cut: {length} characters]"

    def bytes(self, value: Any) -> str:
        """Bytes: as text when they are text, else base64."""
        length = len(value)
        head = bytes(value[: max(self.left, 0) + 4])
        if length > len(head):
            self.exact = length
        try:
            shown = head.decode() if length == len(head) else head.decode("utf-8", "ignore")
        except UnicodeDecodeError:
            shown = ""
        if length and (not shown or "\0" in shown or 2 * len(shown) < len(head)):
            return self._binary(value, length)
        if length > len(head):
            full = f"… [cut: {length} bytes]"
            self.missed(length - len(head))
            self.left = 0
            return shown + full
        return self.text(shown)

    def _binary(self, value: Any, length: int) -> str:
        import binascii

        room = max(self.left, 0) * 3 // 4
        shown = binascii.b2a_base64(bytes(value[:room]), newline=False).decode()
        self.left -= len(shown) + 10
        if length <= room:
            return f"base64:{shown}"
        self.exact = length
        self.missed((length - room) * 4 // 3)
        return f"base64:{shown}… [cut: {length} bytes]"

    def mapping(self, items: Iterable[tuple[Any, Any]], length: int, depth: int) -> dict[str, Any]:
        """Keys and values, as many as fit."""
        plain: dict[str, Any] = {}
        before = self.left
        self.left -= 2
        # One C call takes the items, so no other thread can change the mapping in between.
        taken = list(islice(items, max(self.left, 0) // 4 + 1))
        kept = 0
        for key, item in taken:
            if self.left <= 0:
                break
            kept += 1
            name = key if type(key) is str else self.key(key)
            if self.hides(name):
                self.left -= len(name) + 8
                plain[name] = HIDDEN
                continue
            name = self.text(name)
            self.left -= 2
            plain[name] = self.value(item, depth + 1)
        if kept < length:
            self.rest(length - kept, before, kept)
            plain["…"] = f"[cut: {length - kept} of {length} keys]"
        return plain

    def sequence(self, value: Any, length: int, depth: int) -> list[Any]:
        """Items of a list or tuple, as many as fit."""
        if length == 2 and type(value[0]) in (str, bytes):
            name = self.key(value[0])
            if self.hides(name):
                self.left -= len(name) + 10
                return [name, HIDDEN]
        if length > 32:
            numbers = self.numbers(value, length)
            if numbers is not None:
                return numbers
        return self.items(value, length, depth)

    def items(self, values: Iterable[Any], length: int, depth: int) -> list[Any]:
        """Items of anything that may be iterated, as many as fit."""
        plain: list[Any] = []
        before = self.left
        self.left -= 2
        for item in list(islice(values, max(self.left, 0) // 2 + 1)):
            if self.left <= 0:
                break
            self.left -= 1
            plain.append(self.value(item, depth + 1))
        if len(plain) < length:
            count = len(plain)
            self.rest(length - count, before, count)
            plain.append(f"… [cut: {length - count} of {length} items]")
        return plain

    def numbers(self, value: Any, length: int) -> list[Any] | None:
        """A long run of numbers at the speed of C; ``None`` when it is something else."""
        head = list(value[: max(self.left, 0) // 2])
        kinds = set(map(type, head))
        if not head or not kinds <= _NUMBERS:
            return None
        if float in kinds and not math.isfinite(sum(item for item in head if type(item) is float)):
            return None
        try:
            size = len(orjson.dumps(head))
        except TypeError:  # an int beyond 64 bits
            return None
        while size > self.left and head:
            head = head[: min(len(head) * self.left // size, len(head) - 1)]
            size = len(orjson.dumps(head))
        before = self.left
        self.left -= size
        if len(head) < length:
            count = len(head)
            self.rest(length - count, before, count)
            head.append(f"… [cut: {length - count} of {length} items]")
        return head

    def key(self, key: Any) -> str:
        """A mapping's key as text."""
        if isinstance(key, str):
            return str.__str__(key)
        if isinstance(key, bytes):
            return key[:256].decode("utf-8", "backslashreplace")
        plain = Walk(256, self.keys).value(key, DEPTH - 2)
        if isinstance(plain, str):
            return plain
        return "null" if plain is None else str(plain).lower() if isinstance(plain, bool) else str(plain)

    def hides(self, name: str) -> bool:
        """Whether a value under this name is hidden."""
        hidden = self.keys.known.get(name)
        return self.keys.hides(name) if hidden is None else hidden

    def missed(self, size: int) -> None:
        """Something was left out for lack of room."""
        self.cut = True
        self.only_depth = False
        self.missing += max(size, 0)

    def rest(self, left_out: int, before: int, kept: int) -> None:
        """Items were left out: they are taken to be as long as the ones kept."""
        each = max((before - self.left) // max(kept, 1), 2)
        self.missed(left_out * each)
        self.left = min(self.left, 0)

    def attempt(self, read: Callable[[], Any]) -> Any:
        """A value that the object's own code gives, or a note that it failed."""
        try:
            return read()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001
            return f"<unreadable: {type(error).__name__}>"


def text_size(value: str) -> int:
    """Bytes of a text in UTF-8: exact for ASCII and up to 16 million characters, estimated beyond."""
    length = len(value)
    if value.isascii():
        return length
    if length <= _EXACT:
        return len(value.encode("utf-8", "backslashreplace"))
    return length * len(value[:65536].encode("utf-8", "backslashreplace")) // 65536


def escaped(value: str) -> str:
    """An exact ``str`` without lone surrogates."""
    value = str.__str__(value)
    if value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def without_surrogates(plain: Any) -> Any:
    """The same plain data with lone surrogates escaped."""
    if isinstance(plain, str):
        return escaped(plain)
    if isinstance(plain, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in plain.items()}
    if isinstance(plain, list):
        return [without_surrogates(item) for item in plain]
    return plain
