"""Rows of a file of unknown format: JSON Lines, a JSON list, a JSON object that holds a list, or CSV.

The format is told by what is in the file, never by its name. Reading is streaming: a row at a time, so a million of
them take no more memory than one. A row that cannot be read does not end the reading; it comes out as a :class:`Broken`
that knows its line, and the good rows around it are kept.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from tracekeeper.reading.jsonstream import elements
from tracekeeper.reading.rows import Broken, Row, row_of
from tracekeeper.types import ImportFileError

Format = Literal["JSON Lines", "JSON", "CSV"]

_SAMPLE = 1 << 20
_LINES = 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FIELD_LIMIT = 1 << 28
"""Characters of one CSV field (the standard library's default is 128 Ki, less than a document)."""


class Source(NamedTuple):
    """A file whose format is known."""

    path: Path
    format: Format
    encoding: str

    def rows(self) -> Iterator[Row | Broken]:
        """Read it from the beginning."""
        match self.format:
            case "JSON Lines":
                return _json_lines(self.path, self.encoding)
            case "JSON":
                return _json(self.path, self.encoding)
            case _:
                return _csv(self.path, self.encoding)


def open_source(path: str | Path, *, encoding: str | None = None) -> Source:
    """Look at a file and tell its format and encoding (UTF-8 unless it begins with another byte order mark).

    Raises
    ------
    ImportFileError
        When it cannot be read, is empty, or is no text.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            sample = file.read(_SAMPLE)
    except OSError as error:
        raise ImportFileError(f"{path}: {error.strerror or error}") from error
    whole = len(sample) < _SAMPLE
    encoding = encoding or next((name for mark, name in _BOMS if sample.startswith(mark)), "utf-8")
    try:
        text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(sample)
    except LookupError:
        raise ImportFileError(f"unknown encoding {encoding!r}; try utf-8, utf-16, latin-1 or cp1252") from None
    text = text.removeprefix("\ufeff").lstrip()
    if not text:
        raise ImportFileError(f"{path}: the file is empty")
    if "\0" in text:
        raise ImportFileError(f"{path}: not a text file; expected JSON Lines, JSON or CSV")
    return Source(path, _format_of(text, whole=whole), encoding)


def _format_of(text: str, *, whole: bool) -> Format:
    if text[0] == "[":
        return "JSON"
    lines = [line for line in text.split("\n") if line.strip()][:_LINES]
    if not whole and 1 < len(lines) < _LINES:
        lines.pop()  # cut off in its middle by the end of the sample
    objects = [isinstance(_loads_or_none(line), dict) for line in lines]
    # A whole object on the first line is no beginning of a longer document. Where the first line is broken, half of the
    # lines tell: a document spread over lines has few that are whole objects (commas and brackets are left over).
    if objects[0] or (any(objects) and sum(objects) * 2 >= len(lines)):
        only = _loads_or_none(lines[0]) if whole and len(lines) == 1 else None
        return "JSON" if only is not None and _wraps_rows(only) else "JSON Lines"
    return "JSON" if text[0] == "{" else "CSV"


def _wraps_rows(document: dict[str, Any]) -> bool:
    """Whether a lone object is a wrapper around its rows rather than a row itself."""
    lists = [value for value in document.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    return any(len(rows) > 1 for rows in lists) or (len(lists) == 1 and len(document) == 1)


def _loads(line: str | bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)  # slower, and takes NaN and Infinity, which Python writes


def _loads_or_none(line: str) -> Any:
    try:
        return _loads(line)
    except (ValueError, RecursionError):
        return None


def _json_lines(path: Path, encoding: str) -> Iterator[Row | Broken]:
    for number, line in _lines(path, encoding):
        if isinstance(line, Broken):
            yield line
            continue
        try:
            value = _loads(line)
        except json.JSONDecodeError as error:
            yield Broken(number, f"not JSON: {error.msg} at column {error.colno}")
        except UnicodeDecodeError as error:
            yield Broken(number, f"not {encoding}: {error.reason} at byte {error.start + 1}")
        except (ValueError, RecursionError) as error:
            yield Broken(number, f"not JSON: {error}")
        else:
            yield row_of(number, value)


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str | bytes | Broken]]:
    """Non-blank lines with their numbers. UTF-8 stays bytes, so a line that is not UTF-8 breaks only itself."""
    if encoding == "utf-8":
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                stripped = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip()
                if stripped:
                    yield number, stripped
        return
    with path.open(encoding=encoding, errors="replace", newline="\n") as text:
        for number, decoded in enumerate(text, 1):
            stripped_text = decoded.removeprefix("\ufeff").strip()
            if stripped_text:
                yield number, Broken(number, f"not {encoding}") if "\ufffd" in stripped_text else stripped_text


def _json(path: Path, encoding: str) -> Iterator[Row | Broken]:
    with path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, errors="replace") as file:
        yield from elements(file)


def _csv(path: Path, encoding: str) -> Iterator[Row | Broken]:
    # surrogateescape: bytes that are not text come through as lone surrogates, so only their own row is refused.
    codec, errors = ("utf-8-sig", "surrogateescape") if encoding == "utf-8" else (encoding, "replace")
    if csv.field_size_limit() < _FIELD_LIMIT:
        csv.field_size_limit(_FIELD_LIMIT)
    with path.open(encoding=codec, errors=errors, newline="") as file:
        delimiter = _delimiter(file.read(_SAMPLE))
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter)
        names: list[str] = []
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Broken(line, f"not CSV: {error}")
                continue
            if not any(cells):
                continue
            if not names:
                names = _header(path, cells)
            elif len(cells) != len(names):
                yield Broken(line, f"{len(cells)} fields where the header has {len(names)}")
            elif any(_undecoded(cell) for cell in cells):
                yield Broken(line, f"not {encoding}; name the file's encoding")
            else:
                yield Row(line, dict(zip(names, cells, strict=True)))


def _undecoded(cell: str) -> bool:
    return not cell.isascii() and any(c == "\ufffd" or "\udc80" <= c <= "\udcff" for c in cell)


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ImportFileError(f"{path}: the header names {', '.join(map(repr, twice))} more than once")
    return names


def _delimiter(sample: str) -> str:
    """That of comma, semicolon, tab and bar which the header has most often outside quotes (RFC 4180 quoting).

    ``csv.Sniffer`` guesses quoting and white space too, from all of the text, and is far off where texts hold quotes.
    """
    header = sample.lstrip("\ufeff\r\n ").split("\n", 1)[0]
    return max(",;\t|", key="".join(header.split('"')[::2]).count)
