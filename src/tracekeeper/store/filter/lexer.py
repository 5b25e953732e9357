"""Filter text cut into tokens.

A *word* is a run of letters, digits and ``_ . : / @ + -`` (the language has no arithmetic, so these are free): field
paths, bare strings, numbers, durations and times are all words, and the grammar decides by the field's type what one
means. ``score.cites-source``, ``2026-11-01T10:00Z``, ``-2h`` and ``jane@example.org`` are one word each.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tracekeeper.store.filter.nodes import ESCAPES
from tracekeeper.types import FilterError

MAX_LENGTH = 8_000
"""Characters of a filter. Longer ones are refused rather than handed to a database that would refuse them later."""

OPERATORS = ("!~", "!=", "<=", ">=", "=", "<", ">", "~")

# What people type who know other languages.
MISTAKES = {
    "===": "=",
    "!==": "!=",
    "==": "=",
    "=<": "<=",
    "=>": ">=",
    "<>": "!=",
    "=!": "!=",
    "=~": "~",
    "~=": "~",
    "&&": "and",
    "||": "or",
    "&": "and",
    "|": "or",
    "!": "not",
}

_mistakes = sorted(MISTAKES, key=len, reverse=True)
_space = re.compile(r"\s*")
_word = re.compile(r"[\w.:/@+-]+")
_symbols = re.compile(r"[=<>!~&|]+")


class Token(NamedTuple):
    """A piece of the text. ``kind``: word, string, operator, end, or the punctuation character itself."""

    kind: str
    text: str
    """Of a string its value, else the characters as typed."""
    position: int


def tokens(source: str) -> list[Token]:
    """The tokens of a filter, ending with one of kind ``end``.

    Raises
    ------
    FilterError
        For a character that belongs to nothing, a string without an end, an operator of another language.
    """
    if len(source) > MAX_LENGTH:
        raise FilterError(f"this filter is too long: {len(source):,} characters, at most {MAX_LENGTH:,} are allowed")
    found: list[Token] = []
    position = _skip(source, 0)
    while position < len(source):
        token, position = _next(source, position)
        found.append(token)
        position = _skip(source, position)
    return [*found, Token("end", "", len(source))]


def _skip(source: str, position: int) -> int:
    match = _space.match(source, position)
    return match.end() if match else position


def _next(source: str, position: int) -> tuple[Token, int]:
    character = source[position]
    if character in "\"'":
        return _string(source, position)
    if character in "()[],":
        return Token(character, character, position), position + 1
    if match := _symbols.match(source, position):
        return _operator(source, position, match.group())
    if match := _word.match(source, position):
        return Token("word", match.group(), position), match.end()
    hint = '; use straight quotes "…"' if character in "“”„‘’‚«»`" else ""
    raise FilterError(f"unexpected character {character!r}{hint}", text=source, position=position)


def _operator(source: str, position: int, run: str) -> tuple[Token, int]:
    for mistake in _mistakes:
        # "!" is a mistake, but not where it begins "!=" or "!~".
        if run.startswith(mistake) and (len(mistake) > 1 or not run.startswith(OPERATORS)):
            message = f"unknown operator {mistake!r}; did you mean {MISTAKES[mistake]!r}?"
            raise FilterError(message, text=source, position=position)
    for operator in OPERATORS:
        if run.startswith(operator):
            return Token("operator", operator, position), position + len(operator)
    raise FilterError(f"unknown operator {run!r}; known are {' '.join(OPERATORS)}", text=source, position=position)


def _string(source: str, start: int) -> tuple[Token, int]:
    quote = source[start]
    characters: list[str] = []
    position = start + 1
    while position < len(source):
        character = source[position]
        if character == quote:
            return Token("string", "".join(characters), start), position + 1
        if character == "\\":
            position += 1
            letter = source[position : position + 1]
            if letter not in ESCAPES:  # also the empty text at the end: then the quote is missing, which says more
                if not letter:
                    break
                known = ", ".join(f"\\{known}" for known in ESCAPES)
                message = f"unknown escape \\{letter}; known are {known} (a backslash itself is \\\\)"
                raise FilterError(message, text=source, position=position - 1)
            character = ESCAPES[letter]
        elif character == "\0" or "\ud800" <= character <= "\udfff":
            raise FilterError(f"the character {character!r} cannot be searched for", text=source, position=position)
        characters.append(character)
        position += 1
    raise FilterError(f"the string that begins here has no closing {quote}", text=source, position=start)
