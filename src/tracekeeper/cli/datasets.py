"""Datasets: the versioned items that apps are evaluated with.

Actions: `list` (the default); `show NAME`: versions, splits, tags and the first items; `import NAME FILE`: add the rows
of a file (JSON Lines, JSON, CSV, YAML, Parquet; `-` reads standard input) or, with `--records`, the inputs of stored
records; `export NAME FILE`: write a file whose format its name tells (`-` writes JSON Lines to standard output);
`diff NAME [OLD [NEW]]`: what differs between two versions, by default the last two.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from tracekeeper.cli.files_given import BROKEN_SHOWN, readable
from tracekeeper.cli.output import add_json, limit, print_table, require_data
from tracekeeper.evaluation.datasets.dataset import Dataset
from tracekeeper.evaluation.datasets.importing import LeftOut
from tracekeeper.evaluation.datasets.listing import datasets
from tracekeeper.evaluation.datasets.sources import FORMATS, Format
from tracekeeper.evaluation.datasets.view import View
from tracekeeper.evaluation.datasets.writing import row_of
from tracekeeper.reading.columns import json_text
from tracekeeper.render import format_time, plural, render_key_values, render_table, truncate
from tracekeeper.types import ConfigurationError, DatasetError, TracekeeperWarning

EXAMPLES = """\
tracekeeper datasets
tracekeeper datasets import capitals capitals.csv --rename answer=expected --split test
tracekeeper datasets import failures --records 'app = "rag" and score.groundedness < 0.5' --tag production
tracekeeper datasets show capitals
tracekeeper datasets export capitals capitals.yaml --only-tag hard
tracekeeper datasets diff capitals
"""

ACTIONS = ("list", "show", "import", "export", "diff")
WORDS = {"list": (0, 0), "show": (1, 1), "import": (1, 2), "export": (2, 2), "diff": (1, 3)}
"""How many words each action takes, at least and at most."""
USAGE = {
    "list": "datasets list",
    "show": "datasets show NAME",
    "import": "datasets import NAME FILE, or: datasets import NAME --records FILTER",
    "export": "datasets export NAME FILE",
    "diff": "datasets diff NAME [OLD [NEW]]",
}
OPTIONS = {
    "show": ("version", "limit", "only_tag", "only_split", "filter", "sample", "seed"),
    "import": ("format", "id", "rename", "tag", "split", "update", "encoding", "records", "expected", "limit"),
    "export": ("version", "format", "only_tag", "only_split", "filter", "sample", "seed"),
}
VERSIONS_SHOWN = 10
WIDE = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", metavar="ACTION", nargs="?", choices=ACTIONS, default="list", help=", ".join(ACTIONS))
    parser.add_argument("operands", metavar="WORD", nargs="*", help="name, file or versions, as the action takes them")
    adding = parser.add_argument_group("import")
    adding.add_argument("--id", metavar="FIELD", help="the field that is an item's id (default: id, if there is one)")
    adding.add_argument("--rename", metavar="OLD=NEW", action="append", help="call a field otherwise (repeatable)")
    adding.add_argument("--tag", metavar="T", action="append", help="a tag for every item (repeatable)")
    adding.add_argument("--split", metavar="S", help="the split of items that have none")
    adding.add_argument("--update", action="store_true", default=None, help="let an item replace the one with its id")
    adding.add_argument("--encoding", metavar="NAME", help="text encoding (default: utf-8, or by the byte order mark)")
    adding.add_argument("--records", metavar="FILTER", help='take stored records instead of a file; "*" for all')
    adding.add_argument("--expected", metavar="WHAT", help="of a record: expected (default), output, or none")
    choosing = parser.add_argument_group("show and export")
    choosing.add_argument("--version", metavar="V", help="a version instead of the newest: its first digits")
    choosing.add_argument("--only-tag", metavar="T", action="append", help="items with this tag (repeatable: any)")
    choosing.add_argument("--only-split", metavar="S", help="items of this split")
    choosing.add_argument("--filter", metavar="FILTER", help="items that match, e.g. 'input.topic = weather'")
    choosing.add_argument("--sample", metavar="N", help="so many items by chance (5), or each with this chance (0.1)")
    choosing.add_argument("--seed", metavar="N", type=int, help="another sample (default: 0)")
    parser.add_argument("--format", metavar="F", choices=FORMATS, help=f"of the file: {', '.join(FORMATS)}")
    parser.add_argument("--limit", metavar="N", type=limit, help="show: items (default: 5); --records: the newest N")
    add_json(parser)


def run(parsed: argparse.Namespace) -> int:
    """Do it. 1 when rows were left out of an import."""
    _check_words(parsed)
    if parsed.action == "import":
        return _import(parsed)
    require_data()
    if parsed.action == "list":
        print_table(datasets(), as_json=parsed.json)
        return 0
    dataset = _find(parsed.operands[0], parsed.version)
    match parsed.action:
        case "show":
            _show(parsed, dataset)
        case "export":
            _export(parsed, dataset)
        case _:
            found = dataset.diff(*map(_version, parsed.operands[1:]))
            print(json_text(found.to_dict()) if parsed.json else found.describe())
    return 0


def _check_words(parsed: argparse.Namespace) -> None:
    least, most = WORDS[parsed.action]
    if not least <= len(parsed.operands) <= most:
        raise ConfigurationError(f"expected: tracekeeper {USAGE[parsed.action]}")
    known = OPTIONS.get(parsed.action, ())
    every = dict.fromkeys(option for options in OPTIONS.values() for option in options)
    for option in every:
        if option not in known and getattr(parsed, option) is not None:
            raise ConfigurationError(f"--{option.replace('_', '-')} is not for datasets {parsed.action}")
    if parsed.action == "import":
        given = len(parsed.operands) == 2
        if given == (parsed.records is not None):
            raise ConfigurationError(f"expected: tracekeeper {USAGE['import']}")
        of_files = ("format", "id", "rename", "update", "encoding") if not given else ("expected", "limit")
        wrong = [option for option in of_files if getattr(parsed, option) is not None]
        if wrong:
            raise ConfigurationError(f"--{wrong[0]} is {'with' if given else 'not for'} --records{' only' * given}")


def _find(name: str, version: str | None) -> Dataset:
    known = {facts.name for facts in datasets()}
    if name not in known:
        raise DatasetError(f"there is no dataset {name!r}; there are: {', '.join(sorted(known)) or 'none'}")
    return Dataset(name, version=_version(version))


def _version(text: str | None) -> str | int | None:
    """Short numbers are numbers of versions; the digits of one's content are twelve, of which four are enough."""
    return int(text) if text is not None and text.isdecimal() and len(text) < 4 else text


def _import(parsed: argparse.Namespace) -> int:
    name = parsed.operands[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracekeeperWarning)  # what it says is said below
        if parsed.records is not None:
            dataset = Dataset.from_records(
                name,
                None if parsed.records == "*" else parsed.records,
                limit=parsed.limit,
                expected=parsed.expected or "expected",
                tags=parsed.tag,
                split=parsed.split,
            )
        else:
            with readable(parsed.operands[1]) as path:
                dataset = Dataset.from_file(
                    name,
                    path,
                    format=parsed.format,
                    id=parsed.id,
                    rename=_renamed(parsed.rename or []),
                    tags=parsed.tag,
                    split=parsed.split,
                    update=bool(parsed.update),
                    encoding=parsed.encoding,
                )
    _report(parsed, dataset)
    return 1 if dataset.left_out else 0


def _renamed(given: list[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    for (old, equals, new), text in zip(pairs, given, strict=True):
        if not (old and equals and new):
            raise ConfigurationError(f"--rename {text}: expected OLD=NEW")
    return {old: new for old, _, new in pairs}


def _report(parsed: argparse.Namespace, dataset: Dataset) -> None:
    done, left_out = dataset.inserted, dataset.left_out
    noun = "record" if parsed.records is not None else "line"
    if parsed.json:
        lines = [row._asdict() for row in left_out]
        facts = {"dataset": dataset.name, "version": dataset.version, "items": len(dataset), **done._asdict()}
        print(json_text({**facts, "left_out": len(left_out), "left_out_lines": lines}))
        return
    _say_left_out(left_out, noun)
    print(
        f"{plural(done.added, 'item')} added, {done.changed:,} changed, {done.same:,} there already; "
        f"dataset {dataset.name!r} has {plural(len(dataset), 'item')}, version {dataset.version or '(none)'}"
    )


def _say_left_out(left_out: LeftOut, noun: str) -> None:
    for row in left_out.rows[:BROKEN_SHOWN]:
        print(f"{noun} {row.line:,}: {row.why}", file=sys.stderr)
    if len(left_out) > BROKEN_SHOWN:
        print(f"… and {plural(len(left_out) - BROKEN_SHOWN, f'more {noun}')} left out", file=sys.stderr)


def _selected(parsed: argparse.Namespace, dataset: Dataset) -> View:
    chosen = {"tags": parsed.only_tag, "split": parsed.only_split, "filter": parsed.filter}
    if parsed.sample is None and all(value is None for value in chosen.values()):
        return dataset
    sample: int | float | None = None
    if parsed.sample is not None:
        try:
            sample = int(parsed.sample) if parsed.sample.isdecimal() else float(parsed.sample)
        except ValueError:
            raise ConfigurationError(f"--sample {parsed.sample}: expected a number") from None
    return dataset.select(**chosen, sample=sample, seed=parsed.seed or 0)


def _export(parsed: argparse.Namespace, dataset: Dataset) -> None:
    chosen = _selected(parsed, dataset)
    file = parsed.operands[1]
    if file != "-":
        path = chosen.to_file(file, format=parsed.format)
        facts = {"file": str(path), "dataset": dataset.name, "version": chosen.version, "items": len(chosen)}
        print(json_text(facts) if parsed.json else f"{plural(len(chosen), 'item')} of {dataset!r} written to {path}")
        return
    format: Format = parsed.format or "jsonl"
    with tempfile.TemporaryDirectory() as folder:
        path = chosen.to_file(Path(folder) / f"standard output.{format}", format=format)
        with path.open("rb") as source:
            while piece := source.read(1 << 20):
                sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _show(parsed: argparse.Namespace, dataset: Dataset) -> None:
    chosen = _selected(parsed, dataset)
    tags: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    fields: Counter[str] = Counter()
    items = 0
    wanted: int = 5 if parsed.limit is None else parsed.limit
    first: list[dict[str, Any]] = []
    for item in chosen:
        items += 1
        tags.update(item.tags)
        splits.update([item.split])
        fields.update(item.fields.keys())
        if len(first) < wanted:
            first.append(row_of(item))
    versions = dataset.versions()
    if parsed.json:
        plain = {"dataset": dataset.name, "version": chosen.version, "items": items, "fields": fields, "tags": tags}
        plain |= {"splits": splits, "versions": [each._asdict() for each in versions], "first": first}
        print(json_text(plain))
        return
    pairs: dict[str, Any] = {
        "dataset": dataset.name,
        "version": chosen.version or "(none)",
        "items": items,
        "fields": _counts(fields, items) or "none",
    }
    if tags:
        pairs["tags"] = _counts(tags, None)
    if set(splits) - {""}:
        pairs["splits"] = _counts(Counter({split or "(none)": n for split, n in splits.items()}), None)
    print(render_key_values(pairs, width=10_000))
    print("\nversions")
    rows = [
        (
            each.version,
            str(each.number),
            f"{each.items:,}",
            f"+{each.added:,} ~{each.changed:,} -{each.removed:,}",
            format_time(each.created.timestamp()),
            "" if each.complete else "the insert did not come to its end",
        )
        for each in versions[-VERSIONS_SHOWN:]
    ]
    print(render_table(("version", "number", "items", "changes", "made", ""), rows))
    if first:
        print("\nitems")
        for row in first:
            print(f"  {truncate(json_text(row), WIDE)}")
        if items > len(first):
            print(f"  … and {items - len(first):,} more")


def _counts(counts: Counter[str], whole: int | None) -> str:
    """Names with how many items have each, which is left out where all have."""
    return ", ".join(name if n == whole else f"{name} ({n:,})" for name, n in counts.most_common(30))
