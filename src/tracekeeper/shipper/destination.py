"""Where a journal's frames belong, as its header says it (no secrets: a SQLite path has none)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

DEFAULT_NAME = "tracekeeper.db"
"""The store's file in the data directory, unless ``store`` says otherwise."""


class Destination(NamedTuple):
    """A store and a project.

    ``default`` says that the store is the directory's own: such a journal follows its directory when that is moved or
    mounted elsewhere.
    """

    url: str
    project: str = "default"
    default: bool = False

    @classmethod
    def make(cls, directory: Path, store: str | None, project: str) -> Destination:
        """From the settings; a relative path is taken from the working directory as it is now.

        Example
        -------
        >>> Destination.make(Path("/data"), None, "bot").url
        'sqlite:////data/tracekeeper.db'
        """
        home = f"sqlite:///{directory / DEFAULT_NAME}"
        url = home if store is None else absolute(store)
        return cls(url, project, url == home)

    @classmethod
    def of(cls, header: Mapping[str, str]) -> Destination:
        """From a journal's header."""
        return cls(header.get("store", ""), header.get("project", "default"), header.get("default") == "yes")

    def header(self) -> dict[str, str]:
        """For a journal's header."""
        return {"store": self.url, "project": self.project, "default": "yes" if self.default else "no"}


def absolute(url: str) -> str:
    """A SQLite URL with an absolute path, so that it means the same file to every process.

    Example
    -------
    >>> absolute("sqlite:////data/x.db")
    'sqlite:////data/x.db'
    """
    path = path_of(url)
    if path is None:
        return url
    _, mark, options = url.partition("?")
    return f"sqlite:///{path.expanduser().absolute()}{mark}{options}"


def path_of(url: str) -> Path | None:
    """The file of a SQLite URL; ``None`` of any other URL."""
    if not url.lower().startswith("sqlite:///"):
        return None
    return Path(url[len("sqlite:///") :].partition("?")[0])
