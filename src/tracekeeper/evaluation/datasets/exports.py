"""What a dataset and a selection can be written to: the methods of both."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracekeeper.evaluation.datasets import writing
from tracekeeper.evaluation.datasets.schema import schema_of
from tracekeeper.evaluation.datasets.sources import Format
from tracekeeper.evaluation.item import Item

if TYPE_CHECKING:
    import pandas


class Exports:
    """Items that can be written to files and frames."""

    name: str

    def to_file(self, path: str | Path, *, format: Format | None = None) -> Path:
        """Write the items to a file, whole or not at all, and return its path.

        Parameters
        ----------
        format:
            ``jsonl``, ``json``, ``csv``, ``yaml`` or ``parquet``; by default the name's ending tells. YAML gets a JSON
            schema for editors beside it. CSV knows only text, so other values are written as JSON.

        Raises
        ------
        DatasetError
            The format is unknown; Parquet: a field has values of different types; CSV: a text has a zero character.
        MissingExtraError
            YAML or Parquet, and its package is not installed.
        OSError
            It cannot be written.

        Example
        -------
        >>> import tracekeeper as tk
        >>> path = tk.Dataset("doc-file").insert([{"id": "a", "q": "1 + 1?"}]).to_file("sums.jsonl")
        >>> path.read_text()
        '{"id":"a","q":"1 + 1?"}\\n'
        """
        return writing.write(self._fixed_view(), path, format=format, schema=self.schema)

    def to_jsonl(self, path: str | Path) -> Path:
        """Write JSON Lines; see :meth:`to_file`."""
        return self.to_file(path, format="jsonl")

    def to_json(self, path: str | Path) -> Path:
        """Write a JSON list; see :meth:`to_file`."""
        return self.to_file(path, format="json")

    def to_csv(self, path: str | Path) -> Path:
        """Write CSV; see :meth:`to_file`."""
        return self.to_file(path, format="csv")

    def to_yaml(self, path: str | Path) -> Path:
        """Write YAML, with a JSON schema for editors beside it; see :meth:`to_file`."""
        return self.to_file(path, format="yaml")

    def to_parquet(self, path: str | Path) -> Path:
        """Write Parquet; see :meth:`to_file`."""
        return self.to_file(path, format="parquet")

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame: a row an item, a column a field. All of it is in memory.

        Raises
        ------
        MissingExtraError
            pandas is not installed.
        """
        return writing.to_pandas(self._fixed_view())

    def to_huggingface(self) -> Any:
        """A ``datasets.Dataset`` of Hugging Face.

        Raises
        ------
        DatasetError
            A field has values of different types.
        MissingExtraError
            The package ``datasets`` is not installed.
        """
        return writing.to_huggingface(self._fixed_view())

    def schema(self) -> dict[str, Any]:
        """The JSON schema (draft 2020-12) of a file of these items, made by looking at all of them."""
        return schema_of(self.name, self._fixed_view())

    def _fixed_view(self) -> Iterable[Item]:
        """The same items in every iteration, whatever is inserted meanwhile."""
        raise NotImplementedError
