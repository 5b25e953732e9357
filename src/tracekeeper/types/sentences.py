"""Text cut into sentences, for metrics that say which sentence of an answer has no support.

One pass over the text and no model: a sentence ends at ``.``, ``!``, ``?`` or ``…`` before a space, at ``。！？``
anywhere (Chinese and Japanese put no space after them), at a blank line and before a list item. An English
abbreviation, an initial or the number of a heading does not end one.
"""

from __future__ import annotations

import re

_CLOSERS = "\"'”’»)\\]）」』】》〉"
_CJK_MARKS = frozenset("。！？｡")
# A run of marks with closing quotes, or a line break with the space around it. Each run is taken whole (possessive
# quantifiers) and judged afterwards, so that a megabyte of dots is read once.
_END = re.compile(rf"[.!?…。！？｡]++[{_CLOSERS}]*+|\n\s*+")
_ITEM = re.compile(r"(?:[-*•·▪‣]|\(?\d{1,3}[.)、])[ \t]")
_NEVER = """
mr mrs ms mx dr prof rev hon messrs mme mlle gen col maj capt lt sgt cpl adm gov sen rep pres
e.g i.e cf viz vs al ca approx resp incl excl fig figs eq eqs ref refs no nos vol vols ch sec sect pp ed eds trans art
para par app cit jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri
bros dept univ assn ave blvd rd hwy mt ft
"""
_ABBREVIATIONS = frozenset(_NEVER.split())
# These end a sentence as often as not: they do when what follows begins like a sentence.
_SOMETIMES = "etc a.m p.m u.s u.k u.n u.s.a e.u d.c ph.d b.c a.d inc ltd co corp jr sr st"
_MAYBE = frozenset(_SOMETIMES.split())
_WORD_BEFORE = re.compile(r"[^\s(\[\"'“‘]{1,12}$")


def sentences(text: str) -> list[str]:
    """The sentences of a text in order, without the space around them; nothing else is lost or changed.

    Example
    -------
    >>> sentences("Dr. Smith lives in the U.S. and pays 3.5 dollars. Really? 是的。真的！")
    ['Dr. Smith lives in the U.S. and pays 3.5 dollars.', 'Really?', '是的。', '真的！']
    """
    found: list[str] = []
    start = 0
    for match in _END.finditer(text):
        if not (_breaks(text, match) if match.group()[0] == "\n" else _ends(text, start, match)):
            continue
        piece = text[start : match.end()].strip()
        if piece:
            found.append(piece)
        start = match.end()
    rest = text[start:].strip()
    if rest:
        found.append(rest)
    return found


def _breaks(text: str, match: re.Match[str]) -> bool:
    """Whether a line break separates: a blank line, or a list item after it."""
    return match.group().count("\n") > 1 or _ITEM.match(text, match.end()) is not None


def _ends(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether marks are the end of a sentence rather than part of a number, a name or an abbreviation."""
    mark = match.group()
    if not _CJK_MARKS.isdisjoint(mark):
        return True
    if match.end() < len(text) and not text[match.end()].isspace():
        return False
    if mark[0] != "." or mark.startswith(".."):
        return True
    before = _WORD_BEFORE.search(text, max(start, match.start() - 13), match.start())
    if before is None:
        return True
    word = before.group().lower()
    if word in _MAYBE:
        return _begins(text, match.end())
    if word in _ABBREVIATIONS:
        return False
    if word.isdigit() and before.start() == start + _space(text, start):
        return False  # "1. First": the number of what follows
    return not (len(word) == 1 and word.isalpha() and before.group().isupper() and word != "i")


def _begins(text: str, at: int) -> bool:
    following = text[at : at + 4].lstrip()
    return not following or following[0].isupper() or not following[0].isascii()


def _space(text: str, start: int) -> int:
    head = text[start : start + 64]
    return len(head) - len(head.lstrip())
