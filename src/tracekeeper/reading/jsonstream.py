"""The elements of a JSON list, read one at a time from text of any length.

The list is the document itself, or the first list of objects that a top-level object holds (``{"version": …, "data":
[…]}``, the form of many exports). Punctuation is handled here, whole values by ``json.JSONDecoder.raw_decode`` on a
buffer that grows until the value is complete, so memory is that of the longest element.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

from tracekeeper.reading.rows import Broken, Row, row_of

_PIECE = 1 << 16
_SPACE = " \t\r\n"
_SLACK = 16
"""A literal or escape cut off by the end of the buffer fails at most this many characters before that end."""


def elements(file: IO[str]) -> Iterator[Row | Broken]:
    """The objects of the list in ``file``, each with the line it begins on.

    An element that is no object is :class:`Broken`; where the text stops being JSON, reading ends with a Broken that
    says so.
    """
    text = _Text(file)
    try:
        if text.peek() == "[":
            yield from _list(text)
        else:
            yield from _object(text)
        if text.peek():
            yield Broken(text.line, "text after the end of the JSON document was not read")
    except json.JSONDecodeError as error:
        yield Broken(text.line_of(error.pos), f"not JSON: {error.msg}; nothing after it could be read")
    except RecursionError:
        yield Broken(text.line, "nested too deeply; nothing after it could be read")


def _list(text: _Text) -> Iterator[Row | Broken]:
    text.expect("[")
    while text.peek() != "]":
        text.peek()
        line = text.line
        yield row_of(line, text.value())
        if text.peek() != "]":
            text.expect(",")
            if text.peek() == "]":
                text.fail("a comma before the end of the list")
    text.expect("]")


def _object(text: _Text) -> Iterator[Row | Broken]:
    text.expect("{")
    read: str | None = None
    names = []
    while text.peek() != "}":
        name = text.value()
        if not isinstance(name, str):
            text.fail("expected a name in quotes")
        names.append(name)
        text.expect(":")
        if text.peek() == "[" and text.list_of_objects():
            if read is None:
                read = name
                yield from _list(text)
            else:
                yield Broken(text.line, f"the list {name!r} was left out: only the first list, {read!r}, is read")
                for _ in _list(text):
                    pass
        else:
            text.value()
        if text.peek() != "}":
            text.expect(",")
    line = text.line
    text.expect("}")
    if read is None:
        yield Broken(line, f"the object holds no list of objects, only {', '.join(map(repr, names)) or 'nothing'}")


class _Text:
    """A buffer over a file: what was consumed is dropped, what is needed is read."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._buffer = ""
        self._at = 0
        self._ended = False
        self.line = 1

    def peek(self) -> str:
        """The next character that is no white space; ``""`` at the end."""
        while True:
            while self._at < len(self._buffer):
                character = self._buffer[self._at]
                if character not in _SPACE:
                    return character
                self.line += character == "\n"
                self._at += 1
            if not self._fill():
                return ""

    def expect(self, character: str) -> None:
        """Consume this character, which must be the next one."""
        if self.peek() != character:
            self.fail(f"expected {character!r}")
        self._at += 1

    def value(self) -> Any:
        """Consume one whole JSON value."""
        self.peek()
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                # "Unterminated string" points at the string's beginning, which may be far from where the buffer ends.
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._buffer) - _SLACK
                if not cut or not self._fill():
                    raise
                continue
            if end == len(self._buffer) and self._fill():
                continue  # a number may go on
            self.line += self._buffer.count("\n", self._at, end)
            self._at = end
            return value

    def list_of_objects(self) -> bool:
        """Whether the list that begins here has an object as its first element. Consumes nothing."""
        ahead = self._at + 1
        while True:
            while ahead < len(self._buffer):
                if self._buffer[ahead] not in _SPACE:
                    return self._buffer[ahead] == "{"
                ahead += 1
            ahead -= self._at
            if not self._fill():
                return False
            ahead += self._at

    def fail(self, why: str) -> None:
        raise json.JSONDecodeError(why, self._buffer, self._at)

    def line_of(self, position: int) -> int:
        """The line of a position in the buffer, not before where reading stands."""
        return self.line + self._buffer.count("\n", self._at, max(self._at, position))

    def _fill(self) -> bool:
        """Read on, as much again as is waiting (so a long value is not scanned too often); whether there was
        anything."""
        if self._ended:
            return False
        rest = self._buffer[self._at :]
        more = self._file.read(max(_PIECE, len(rest)))
        self._ended = not more
        self._buffer, self._at = rest + more, 0
        return bool(more)
