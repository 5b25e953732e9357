"""Rows of files: JSON Lines, JSON and CSV as everywhere in Tracekeeper, YAML and Parquet besides.

A row that cannot be read is :class:`~tracekeeper.reading.rows.Broken` and knows its line (of Parquet: its row); the
good ones around it are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import orjson

from tracekeeper.reading.files import Source, open_source
from tracekeeper.reading.rows import Broken, Row, row_of
from tracekeeper.types import ImportFileError, MissingExtraError

Format = Literal["jsonl", "json", "csv", "yaml", "parquet"]
FORMATS: tuple[Format, ...] = ("jsonl", "json", "csv", "yaml", "parquet")

SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_NAMES: dict[Format, Literal["JSON Lines", "JSON", "CSV"]] = {"jsonl": "JSON Lines", "json": "JSON", "csv": "CSV"}


def rows_of(path: str | Path, *, format: Format | None = None, encoding: str | None = None) -> Iterator[Row | Broken]:
    """The rows of a file, one at a time (of YAML: all at once).

    Parameters
    ----------
    format:
        By default YAML, Parquet and JSON Lines are told by the name's ending, the others by what is in the file.
    encoding:
        Of text; by default UTF-8, or by the byte order mark.

    Raises
    ------
    ImportFileError
        It cannot be read, is empty, or is in none of the formats.
    MissingExtraError
        YAML or Parquet, and the package that reads it is not installed.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise ImportFileError(f"format={format!r}: expected {', '.join(FORMATS)}")
    told = format or SUFFIXES.get(path.suffix.lower())
    if told == "parquet":
        return _parquet(path)
    if told == "yaml":
        return _yaml(path, encoding)
    source = open_source(path, encoding=encoding)
    if format is not None:
        source = Source(source.path, _NAMES[format], source.encoding)
    elif told == "jsonl" and not _is_list(source):  # its first lines may be broken, which the content cannot tell
        source = Source(source.path, "JSON Lines", source.encoding)
    return map(_csv_row, source.rows()) if source.format == "CSV" else source.rows()


def _is_list(source: Source) -> bool:
    with source.path.open(encoding=source.encoding, errors="replace") as file:
        return file.read(1_000).lstrip("\ufeff \t\r\n").startswith("[")


def _csv_row(row: Row | Broken) -> Row | Broken:
    """Cells are text; those of the column ``tags`` are a JSON list, or names with commas between."""
    if isinstance(row, Broken) or "tags" not in row.fields:
        return row
    text = row.fields["tags"].strip()
    tags: Any = [tag.strip() for tag in text.split(",") if tag.strip()]
    if text.startswith("["):
        try:
            tags = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return Broken(row.line, f"its tags begin with a bracket and are no JSON list: {error}")
    return Row(row.line, {**row.fields, "tags": tags})


def _yaml(path: Path, encoding: str | None) -> Iterator[Row | Broken]:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("YAML needs PyYAML: pip install 'tracekeeper[yaml]'") from error

    try:
        # libyaml's, where it is: ten times as fast.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        node = yaml.compose(path.read_text(encoding=encoding or "utf-8-sig"), Loader=loader)
    except OSError as error:
        raise ImportFileError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ImportFileError(f"{path}: not {error.encoding}: {error.reason} at byte {error.start + 1}") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ImportFileError(f"{path}{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if node is None:
        raise ImportFileError(f"{path}: the file is empty")
    listed = node
    if isinstance(node, yaml.MappingNode):  # a mapping around the list, as in `items: [...]`
        listed = next((value for _, value in node.value if isinstance(value, yaml.SequenceNode)), node)
    if not isinstance(listed, yaml.SequenceNode):
        raise ImportFileError(f"{path}: expected a list of items, or a mapping that holds one")
    return _yaml_rows(listed)


def _yaml_rows(listed: Any) -> Iterator[Row | Broken]:
    """Each element on its own, with the line that it begins on."""
    import yaml

    maker = yaml.SafeLoader("")
    try:
        for node in listed.value:
            line = node.start_mark.line + 1
            try:
                yield row_of(line, maker.construct_document(node))
            except (yaml.YAMLError, RecursionError, ValueError) as error:
                yield Broken(line, f"not YAML: {getattr(error, 'problem', None) or error}")
    finally:
        maker.dispose()


def _parquet(path: Path) -> Iterator[Row | Broken]:
    pq = pyarrow_parquet()
    try:
        file = pq.ParquetFile(path)
    except OSError as error:
        raise ImportFileError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RuntimeError) as error:  # pyarrow's errors are such
        raise ImportFileError(f"{path}: not Parquet: {error}") from error
    return _parquet_rows(file)


def _parquet_rows(file: Any) -> Iterator[Row | Broken]:
    number = 0
    with file:
        for batch in file.iter_batches(batch_size=1_000):
            for fields in batch.to_pylist():
                number += 1
                yield Row(number, fields)


def pyarrow_parquet() -> Any:
    """The module ``pyarrow.parquet``.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("Parquet needs pyarrow: pip install 'tracekeeper[parquet]'") from error
    return pyarrow.parquet
