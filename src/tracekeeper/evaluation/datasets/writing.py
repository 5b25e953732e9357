"""Items to files and frames. A file is there whole, or as it was before: it is written beside its place, then moved.

What is written can be read again: ids are written too, so the same content comes back as the same version (but for CSV,
which knows only text).
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson

from tracekeeper.evaluation.datasets.sources import FORMATS, SUFFIXES, Format, pyarrow_parquet
from tracekeeper.evaluation.item import Item
from tracekeeper.reading.frames import frame_of
from tracekeeper.types import DatasetError, MissingExtraError

if TYPE_CHECKING:
    import pandas

ROWS = 1_000
"""Items that are turned into columns at once."""


def row_of(item: Item) -> dict[str, Any]:
    """An item as one flat mapping.

    >>> row_of(Item(id="a", fields={"q": 1}, tags=("x",)))
    {'id': 'a', 'q': 1, 'tags': ['x']}
    """
    row: dict[str, Any] = {"id": item.id, **item.fields}
    if item.tags:
        row["tags"] = list(item.tags)
    if item.split:
        row["split"] = item.split
    return row


def columns_of(items: Iterable[Item]) -> list[str]:
    """The names of all fields of all items, ``id`` first, ``tags`` and ``split`` (if there are any) last."""
    names: dict[str, None] = {}
    last: set[str] = set()
    for item in items:
        names.update(dict.fromkeys(item.fields))
        last |= {"tags"} if item.tags else set()
        last |= {"split"} if item.split else set()
    return ["id", *names, *sorted(last, reverse=True)]


def write(items: Iterable[Item], path: str | Path, *, format: Format | None, schema: Callable[[], Any]) -> Path:
    """Write items to a file, in a format that its name tells if it is not given.

    Parameters
    ----------
    items:
        They are iterated twice for CSV and Parquet, whose columns must be known first.
    schema:
        Makes the JSON schema that is written beside a YAML file.

    Raises
    ------
    DatasetError
        The format is unknown; a column of Parquet would hold values of different types; CSV, and a text has a zero
        character.
    MissingExtraError
        YAML or Parquet, and its package is not installed.
    OSError
        It cannot be written.
    """
    path = Path(path)
    told = format or SUFFIXES.get(path.suffix.lower())
    if told not in FORMATS:
        given = f"format={format!r}" if format is not None else f"{path.name}: its ending tells no format"
        raise DatasetError(f"{given}; expected {', '.join(FORMATS)}")
    match told:
        case "jsonl":
            _jsonl(items, path)
        case "json":
            _json(items, path)
        case "csv":
            _csv(items, path)
        case "yaml":
            _yaml(items, path, schema)
        case _:
            _parquet(items, path)
    return path


def to_pandas(items: Iterable[Item]) -> pandas.DataFrame:
    """Items as a frame: a row an item, a column a field."""
    rows = [row_of(item) for item in items]
    names = columns_of(items)
    return frame_of(
        [(name, "text" if name in ("id", "split") else "any") for name in names],
        [[row.get(name) for name in names] for row in rows],
    )


def to_huggingface(items: Iterable[Item]) -> Any:
    """Items as a ``datasets.Dataset``.

    Raises
    ------
    DatasetError
        A field has values of different types.
    MissingExtraError
        The package ``datasets`` is not installed.
    """
    try:
        import datasets
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError("to_huggingface() needs datasets: pip install datasets") from error
    names = columns_of(items)
    rows = [{name: row.get(name) for name in names} for row in map(row_of, items)]
    try:
        return datasets.Dataset.from_list(rows)
    except (pa.ArrowException, OverflowError) as error:
        raise DatasetError(
            f"a field has values of different types, and datasets has one type a column ({error}); "
            "write JSON Lines instead"
        ) from error


def _jsonl(items: Iterable[Item], path: Path) -> None:
    with replacing(path) as file:
        for item in items:
            file.write(orjson.dumps(row_of(item), option=orjson.OPT_APPEND_NEWLINE))


def _json(items: Iterable[Item], path: Path) -> None:
    with replacing(path) as file:
        between = b"[\n"
        for item in items:
            file.write(between + orjson.dumps(row_of(item)))
            between = b",\n"
        file.write(b"[]\n" if between == b"[\n" else b"\n]\n")


def _csv(items: Iterable[Item], path: Path) -> None:
    names = columns_of(items)
    with replacing(path) as file, _text(file) as text:
        writer = csv.writer(text)
        writer.writerow(names)
        for item in items:
            row = row_of(item)
            cells = [_cell(row.get(name)) for name in names]
            zero = next((name for name, cell in zip(names, cells, strict=True) if "\0" in cell), None)
            if zero is not None:
                raise DatasetError(
                    f"item {item.id!r}: field {zero!r} has a zero character, and no reader takes a CSV file with one "
                    "for text; write JSON Lines instead"
                )
            writer.writerow(cells)


@contextmanager
def _text(file: IO[bytes]) -> Iterator[IO[str]]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        yield text
        text.flush()
    finally:
        text.detach()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _yaml(items: Iterable[Item], path: Path, schema: Callable[[], Any]) -> None:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("YAML needs PyYAML: pip install 'tracekeeper[yaml]'") from error

    beside = path.with_name(f"{path.stem}.schema.json")
    with replacing(beside) as file:
        file.write(orjson.dumps(schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    with replacing(path) as file:
        file.write(f"# yaml-language-server: $schema={beside.name}\n".encode())
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "encoding": "utf-8", "width": 110}
        empty = True
        for item in items:
            file.write(yaml.dump([row_of(item)], Dumper=dumper, **options))
            empty = False
        if empty:
            file.write(b"[]\n")


def _parquet(items: Iterable[Item], path: Path) -> None:
    pq = pyarrow_parquet()
    import pyarrow as pa

    schema = _arrow_schema(pa, items)
    with replacing(path) as file, pq.ParquetWriter(file, schema) as writer:
        for rows in _rows(items):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _arrow_schema(pa: Any, items: Iterable[Item]) -> Any:
    """Types that hold every value: they are looked at all, since what is null at first may be anything later."""
    schema = pa.schema([("id", pa.string())])
    for rows in _rows(items):
        columns = dict.fromkeys(name for row in rows for name in row)
        for name in columns:
            try:
                found = pa.array([row.get(name) for row in rows])
                here = pa.schema([(name, found.type)])
                schema = pa.unify_schemas([schema, here], promote_options="permissive")
            except (pa.ArrowException, OverflowError) as error:
                raise DatasetError(
                    f"field {name!r} has values of different types, and Parquet has one type a column ({error}); "
                    "write JSON Lines instead"
                ) from error
    for field in schema:
        if _has_empty_struct(pa, field.type):
            raise DatasetError(f"field {field.name!r} has an object without fields, which Parquet cannot hold")
    return schema


def _has_empty_struct(pa: Any, kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return kind.num_fields == 0 or any(_has_empty_struct(pa, kind.field(n).type) for n in range(kind.num_fields))
    return pa.types.is_list(kind) and _has_empty_struct(pa, kind.value_type)


def _rows(items: Iterable[Item]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for item in items:
        rows.append(row_of(item))
        if len(rows) == ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` when the block ends well, and is gone otherwise."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # as `open` makes it; mkstemp's is for its owner only
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
