"""How much room text takes in a terminal, and cutting it to fit.

Terminals draw in cells: most characters take one, East Asian wide ones and most emoji two, combining ones none.
Sources: Unicode Standard Annex 11 (East Asian Width); general categories Mn, Me and Cf for what takes no room.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Literal

ELLIPSIS = "…"

# Spaces, line ends and tabs become one space; what could drive the terminal or turn the direction of text is taken out.
_spaces = re.compile(r"[\s\x1c-\x1f\x85]+")
_controls = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_directions = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def clean(text: str) -> str:
    """A text as one harmless line: no line ends, no control characters (text that was captured may hold any).

    Example
    -------
    >>> clean("two\\n  lines \\x1b[31mred")
    'two lines �[31mred'
    """
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    return _controls.sub("�", _directions.sub("", _spaces.sub(" ", text))).strip()


def display_width(text: str) -> int:
    """Cells that a line of text takes in a terminal.

    Example
    -------
    >>> display_width("naïve"), display_width("東京"), display_width("e\\u0301")
    (5, 4, 1)
    """
    return len(text) if text.isascii() else sum(map(_cells, text))


def truncate(text: str, width: int) -> str:
    """A line of text in at most ``width`` cells, ending in ``…`` when something was cut.

    Example
    -------
    >>> truncate("a long story", 7), truncate("東京都", 4), truncate("short", 7)
    ('a long…', '東…', 'short')
    """
    if display_width(text) <= width:
        return text
    if width < 1:
        return ""
    room = width - 1
    used = 0
    for index, character in enumerate(text):
        used += _cells(character)
        if used > room:  # combining characters take no room, so they stay with the one before them
            return text[:index].rstrip() + ELLIPSIS
    return text


def pad(text: str, width: int, align: Literal["left", "right"] = "left") -> str:
    """A line of text filled up with spaces to ``width`` cells."""
    spaces = " " * (width - display_width(text))
    return spaces + text if align == "right" else text + spaces


@lru_cache(maxsize=4096)
def _cells(character: str) -> int:
    if character == "\u00ad":  # a soft hyphen is drawn
        return 1
    # Hangul vowels and final consonants are drawn into the syllable that came before.
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
