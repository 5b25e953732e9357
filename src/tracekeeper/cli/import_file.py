"""Make a record of each row of a file: JSON Lines, a JSON list, a JSON object that holds a list, or CSV.

The format is told by what is in the file. Lines that cannot be read are reported with their numbers; the good ones are
kept. Importing a file again makes new records again.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, NamedTuple

import msgspec

from tracekeeper.cli.files_given import BROKEN_SHOWN, readable
from tracekeeper.cli.output import require_tracing
from tracekeeper.reading import flush
from tracekeeper.reading.files import Source, open_source
from tracekeeper.reading.progress import Progress
from tracekeeper.reading.rows import Broken, Row
from tracekeeper.render import plural
from tracekeeper.scoring.log_record import log_record
from tracekeeper.types import ImportFileError

EXAMPLES = """\
tracekeeper import answers.json --input user_query --output chatgpt_response
tracekeeper import runs.csv --input question --output answer --expected truth --app rag --app-version 3
"""

BATCH_ROWS = 2_000
"""Rows after which the journal is shipped: the file may be larger than the journal's limit."""

_MISSING = object()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE", help="the file; - reads standard input")
    parser.add_argument("--input", metavar="FIELD", required=True, action="append", help="what was asked (repeatable)")
    parser.add_argument("--output", metavar="FIELD", required=True, help="what was answered")
    parser.add_argument("--context", metavar="FIELD", help="retrieved documents: a list, or one text")
    parser.add_argument("--expected", metavar="FIELD", help="what should have been answered")
    parser.add_argument("--session", metavar="FIELD", help="the conversation that a row belongs to")
    parser.add_argument("--app", metavar="NAME", help="name of the app that answered (default: the file's name)")
    parser.add_argument("--app-version", metavar="V", default="1", help="its version (default: 1)")
    parser.add_argument("--tag", metavar="T", action="append", default=[], help="a tag for every record (repeatable)")
    parser.add_argument("--encoding", metavar="NAME", help="text encoding (default: utf-8, or by the byte order mark)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(parsed: argparse.Namespace) -> int:
    """Import. 1 when a line was broken or not everything is stored."""
    require_tracing()
    fields = Fields(
        tuple(parsed.input), parsed.output, context=parsed.context, expected=parsed.expected, session=parsed.session
    )
    with readable(parsed.file) as path:
        source = open_source(path, encoding=parsed.encoding)
        check_fields(source, fields)
        app = parsed.app or (path.stem if parsed.file != "-" else "stdin")
        result = import_rows(source, fields, app=app, version=parsed.app_version, tags=tuple(parsed.tag))
    receipt = flush(timeout=60)
    report(result, source.format, receipt, as_json=parsed.json)
    if not result.imported:
        raise ImportFileError(f"{parsed.file}: no line could be imported")
    return 0 if receipt.complete and not result.broken_count else 1


class Fields(NamedTuple):
    """Which fields of a row are what of a record. A name with dots also reaches into objects: ``choices.text``."""

    input: tuple[str, ...]
    output: str
    context: str | None = None
    expected: str | None = None
    session: str | None = None

    def named(self) -> list[str]:
        """Every field that was named."""
        return [
            name for name in (*self.input, self.output, self.context, self.expected, self.session) if name is not None
        ]


class Imported:
    """What an import did."""

    def __init__(self) -> None:
        self.imported = 0
        self.broken_count = 0
        self.broken: list[Broken] = []
        """The first of them."""

    def add_broken(self, broken: Broken) -> None:
        self.broken_count += 1
        if len(self.broken) < BROKEN_SHOWN:
            self.broken.append(broken)


def pick(fields: dict[str, Any], name: str) -> Any:
    """The value of a field; a name that is no key may be a path of keys.

    >>> pick({"a.b": 1, "a": {"c": 2}}, "a.b"), pick({"a": {"c": 2}}, "a.c")
    (1, 2)
    """
    if name in fields:
        return fields[name]
    found: Any = fields
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            return _MISSING
        found = found[part]
    return found


def check_fields(source: Source, fields: Fields) -> None:
    """Look for each named field until all are found, before anything is imported.

    Raises
    ------
    ImportFileError
        A field is in no row; the message names those there are.
    """
    lacking = dict.fromkeys(fields.named())
    seen: dict[str, None] = {}
    broken: Broken | None = None
    for row in source.rows():
        if isinstance(row, Broken):
            broken = broken or row
            continue
        lacking = {name: None for name in lacking if pick(row.fields, name) is _MISSING}
        if not lacking:
            return
        seen.update(dict.fromkeys(row.fields))
    if not seen:
        why = f"; line {broken.line}: {broken.why}" if broken else ""
        raise ImportFileError(f"{source.path}: no row could be read as {source.format}{why}")
    names = ", ".join(map(repr, lacking))
    raise ImportFileError(
        f"{source.path}: no row has the field{'s' if len(lacking) > 1 else ''} {names}; "
        f"there are {', '.join(map(repr, list(seen)[:30]))}"
    )


def import_rows(source: Source, fields: Fields, *, app: str, version: str, tags: tuple[str, ...]) -> Imported:
    """Log a record for each good row. The journal is shipped as it goes, so a file may be larger than its limit."""
    result = Imported()
    with Progress(f"importing {source.format}") as progress:
        for row in source.rows():
            problem = row if isinstance(row, Broken) else import_row(row, fields, app=app, version=version, tags=tags)
            if problem is not None:
                result.add_broken(problem)
            else:
                result.imported += 1
                if result.imported % BATCH_ROWS == 0:
                    flush(timeout=60)
            progress.update(result.imported, note=f"{result.broken_count:,} broken" if result.broken_count else "")
    return result


def import_row(row: Row, fields: Fields, *, app: str, version: str, tags: tuple[str, ...]) -> Broken | None:
    """Log one record, or say why the row is none."""
    inputs = {name: pick(row.fields, name) for name in fields.input}
    output = pick(row.fields, fields.output)
    lacking = [name for name, value in (*inputs.items(), (fields.output, output)) if value is _MISSING]
    if lacking:
        return Broken(row.line, f"no field {', '.join(map(repr, lacking))}")
    session = _optional(row, fields.session)
    log_record(
        input=inputs,
        output=output,
        context=_documents(_optional(row, fields.context)),
        expected=_optional(row, fields.expected),
        app=app,
        version=version,
        session_id=None if session is None else str(session),
        tags=tags,
    )
    return None


def _optional(row: Row, name: str | None) -> Any:
    value = None if name is None else pick(row.fields, name)
    return None if value is _MISSING else value


def _documents(value: Any) -> list[Any] | None:
    if value is None or isinstance(value, list):
        return value
    return [value]


def report(result: Imported, format: str, receipt: Any, *, as_json: bool) -> None:
    """Say what was imported, what was broken and where, and what is stored."""
    if as_json:
        content = {
            "format": format,
            "imported": result.imported,
            "broken": result.broken_count,
            "broken_lines": [{"line": one.line, "why": one.why} for one in result.broken],
            "receipt": msgspec.to_builtins(receipt),
        }
        print(msgspec.json.encode(content).decode())
        return
    for one in result.broken:
        print(f"line {one.line:,}: {one.why}", file=sys.stderr)
    if result.broken_count > len(result.broken):
        print(f"… and {plural(result.broken_count - len(result.broken), 'more broken line')}", file=sys.stderr)
    broken = plural(result.broken_count, "broken line")
    print(f"{plural(result.imported, 'record')} imported, {broken} left out ({format})")
    from tracekeeper.reading.receipts import receipt_text

    print(receipt_text(receipt))
