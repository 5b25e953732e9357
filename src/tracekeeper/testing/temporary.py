"""A keeper in a temporary directory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracekeeper.configuration import configure
from tracekeeper.configuration.settings import base_settings
from tracekeeper.tracing import runtime
from tracekeeper.tracing.runtime import Keeper


@contextmanager
def temporary_keeper(directory: Path | None = None, **changes: Any) -> Iterator[Keeper]:
    """Trace into a directory of one's own; when the block ends, what was configured before is in force again.

    The whole process traces there meanwhile, all threads included. At the end everything is stored, so that nothing
    of it is at work any more.

    Parameters
    ----------
    directory:
        The data directory, which is left for the caller to look at; ``None``: a temporary one, removed at the end.
    changes:
        Further settings, as for ``tracekeeper.configure``.

    Raises
    ------
    ConfigurationError
        A setting that cannot work.

    Example
    -------
    >>> with temporary_keeper(project="test") as keeper:
    ...     keeper.project
    'test'
    """
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="tracekeeper-", ignore_cleanup_errors=True) as place:
            with temporary_keeper(Path(place) / ".tracekeeper", **changes) as keeper:
                yield keeper
            return
    before = base_settings()
    earlier = runtime.keepers()
    configure(**{"directory": directory, "store": None, "enabled": True, **changes})
    try:
        yield runtime.keeper()
    finally:
        configure(**{name: getattr(before, name) for name in before.__struct_fields__})
        for each in runtime.keepers():
            if each not in earlier:
                runtime.discard(each, timeout=10)
