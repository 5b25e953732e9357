"""Files as commands are given them: by name, or ``-`` for standard input."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BROKEN_SHOWN = 10
"""Of a file's broken rows so many are named, and the others counted."""


@contextmanager
def readable(file: str) -> Iterator[Path]:
    """The file as one that can be read twice; standard input is copied to a temporary one."""
    if file != "-":
        yield Path(file)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "standard input"
        with copy.open("wb") as target:
            shutil.copyfileobj(sys.stdin.buffer, target)
        yield copy
