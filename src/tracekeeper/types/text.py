"""Text cut into words, the same way for search and for metrics, in every language.

Most scripts put spaces between words. Chinese and Japanese do not (and Korean glues particles to its words), so there
every character counts as a word, and an index that must find phrases without knowing the words holds overlapping pairs
(bigrams). One segmentation serves the writer of an index, the reader who asks it, and the metrics that compare texts:
they can never disagree.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

TERMS_VERSION = 1
"""Increased whenever ``terms`` or ``query_terms`` change: an index that was built with another version is rebuilt."""

# Scripts written in runs: hangul, CJK radicals and ideographs with their extensions, kana, bopomofo. (Unicode blocks.)
_CJK = (
    "\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u3096\u309d-\u309f"
    "\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003fffd"
)
_alphanumeric = re.compile(r"[^\W_]+")
_pieces = re.compile(rf"[{_CJK}]+|[^{_CJK}]+")
_is_cjk = re.compile(rf"[{_CJK}]").match


def words(text: str) -> list[str]:
    """The words of a text in order: normalised (NFKC), lower-case, without punctuation.

    A word is a run of letters, digits and combining marks; each Chinese, Japanese or Korean character is one word.

    Example
    -------
    >>> words("The Rain in Málaga: 20 mm/day, ２月")
    ['the', 'rain', 'in', 'málaga', '20', 'mm', 'day', '2', '月']
    """
    return [word for cjk, run in _runs(text) for word in (run if cjk else (run,))]


def terms(text: str) -> list[str]:
    """What a full-text index holds for a text, in order.

    A word is one term. Of a run of Chinese, Japanese or Korean characters every overlapping pair is a term, and then
    its last character: so each character of the run *begins* some term, and a search for a single one is a search for
    a prefix. No term holds a space, a quote or an operator of any search syntax.

    Example
    -------
    >>> terms("Dublin 東京都 rain")
    ['dublin', '東京', '京都', '都', 'rain']
    """
    return _terms(_runs(text))


def query_terms(text: str) -> list[str]:
    """The terms to look for, as a phrase whose last term is a prefix; empty when the text has no word.

    They are the text's ``terms``, except that a run of characters at the end may go on in the text that is looked for.

    Example
    -------
    >>> query_terms("東京都"), query_terms("都"), query_terms("都 rai"), query_terms("?!")
    (['東京', '京都'], ['都'], ['都', 'rai'], [])
    """
    runs = _runs(text)
    found = _terms(runs)
    if runs and runs[-1][0] and len(runs[-1][1]) > 1:
        found.pop()
    return found


def texts_within(value: Any, room: int) -> str:
    """The texts and numbers in plain data, in order, without keys, a line each: at most ``room`` characters.

    Example
    -------
    >>> texts_within({"question": "Where?", "options": [{"top_k": 3}, True]}, 100)
    'Where?\\n3'
    """
    found: list[str] = []
    stack = [value]
    while stack and room > 0:
        value = stack.pop()
        if isinstance(value, dict):
            stack.extend(reversed(value.values()))
        elif isinstance(value, list):
            stack.extend(reversed(value))
        elif isinstance(value, str):
            found.append(value[:room])
            room -= len(value) + 1
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(repr(value))
            room -= len(found[-1]) + 1
    return "\n".join(found)


def _terms(runs: list[tuple[bool, str]]) -> list[str]:
    found: list[str] = []
    for cjk, run in runs:
        if cjk:
            found.extend(run[index : index + 2] for index in range(len(run)))
        else:
            found.append(run)
    return found


def _runs(text: str) -> list[tuple[bool, str]]:
    """The runs of letters and digits, and whether each is of CJK characters."""
    # Full-width forms become plain ones first; lower-casing may take a composed letter apart, so compose again.
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    joined: list[str] = []
    glued = False
    matches = list(_alphanumeric.finditer(text))
    for index, match in enumerate(matches):
        end = matches[index + 1].start() if index + 1 < len(matches) else len(text)
        gap = text[match.end() : end]
        # Vowel signs and accents that have no composed form are part of their word, though not alphanumeric.
        marks = "" if gap.isascii() else _leading_marks(gap)
        piece = match.group() + marks
        if glued:
            joined[-1] += piece
        else:
            joined.append(piece)
        glued = bool(marks) and len(marks) == len(gap)
    # Marks on a CJK character, which is a word by itself, are of no word.
    runs = (run[len(_leading_marks(run)) :] for piece in joined for run in _pieces.findall(piece))
    return [(_is_cjk(run) is not None, run) for run in runs if run]


def _leading_marks(gap: str) -> str:
    for index, character in enumerate(gap):
        if not unicodedata.category(character).startswith("M"):
            return gap[:index]
    return gap
