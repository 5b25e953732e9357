"""Markdown pages as passages of plain sentences.

A passage is a paragraph, a list entry or a table row under its headings. Code is left out: an extractive answer quotes
prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_SHORTEST = 30
"""Characters; less is no answer to anything."""

_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
_FENCE = re.compile(r"\s*(```|~~~)")
_RULE = re.compile(r"[\s|:\-=*_]+$")
_ENTRY = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_TAG = re.compile(r"</?[a-zA-Z][^>]*>|<!--.*?-->")
_CODE = re.compile(r"(`+[^`]*`+)")
_MARKS = re.compile(r"(?<![\w*_])[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}(?![\w*_])")
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9`])|(?<=[。！？])")


class Passage(NamedTuple):
    """A piece of a page that can answer something."""

    page: str
    heading: str
    text: str


def passages_of(pages: Iterable[Path]) -> list[Passage]:
    """All passages of the pages, in reading order."""
    return [passage for page in pages for passage in split(page.stem, page.read_text(encoding="utf-8"))]


def split(page: str, markdown: str) -> Iterator[Passage]:
    """The passages of one page.

    >>> [p.text for p in split("x", "# A\\n\\nA *small* part of the whole journal.\\n\\n- An entry which is long.\\n")]
    ['A small part of the whole journal.']
    """
    headings: list[str] = []
    for block in _blocks(markdown):
        heading = _HEADING.match(block)
        if heading:
            level = len(heading[1])
            headings[level - 1 :] = [plain(heading[2])]
        else:
            text = plain(block)
            if len(text) >= _SHORTEST:
                yield Passage(page, " / ".join(headings), text)


def _blocks(markdown: str) -> Iterator[str]:
    """Headings, paragraphs, list entries and table rows, each as one line of Markdown."""
    block: list[str] = []
    fence = ""
    for line in [*markdown.splitlines(), ""]:
        mark = _FENCE.match(line)
        if fence or mark:
            if mark and not fence:
                fence = mark[1]
            elif mark and mark[1] == fence:
                fence = ""
            yield from _joined(block)
            continue
        alone = line.startswith(("#", "|", ">"))
        if not line.strip() or alone or _ENTRY.match(line):
            yield from _joined(block)
        if _RULE.match(line):
            continue
        if line.startswith("|"):
            yield ": ".join(cell.strip() for cell in line.strip().strip("|").split("|") if cell.strip())
        elif line.startswith("#"):
            yield line
        elif line.strip():
            block.append(_ENTRY.sub("", line).lstrip("> ").strip())
    yield from _joined(block)


def _joined(block: list[str]) -> Iterator[str]:
    if block:
        yield " ".join(block)
        block.clear()


def plain(markdown: str) -> str:
    """Markdown without its marks.

    >>> plain("See **[the limits](limits.md)** of `tk.flush`.")
    'See the limits of tk.flush.'
    """
    parts = _CODE.split(_TAG.sub("", _LINK.sub(r"\1", markdown)))
    bare = (part.strip("`") if index % 2 else _MARKS.sub("", part) for index, part in enumerate(parts))
    return " ".join("".join(bare).split())


def sentences(text: str) -> list[str]:
    """The sentences of a passage.

    >>> sentences("Nothing hangs. Nothing is lost (e.g. a span). Really?")
    ['Nothing hangs.', 'Nothing is lost (e.g. a span).', 'Really?']
    """
    return [part.strip() for part in _END.split(text) if part and part.strip()]
