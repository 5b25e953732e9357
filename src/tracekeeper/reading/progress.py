"""Progress of something long: one line redrawn on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import IO


class Progress:
    """Says how far something is.

    Parameters
    ----------
    what:
        What is counted, e.g. ``scores``.
    total:
        How many there will be; ``None`` when that is not known.
    file:
        Where to; default: standard error, so that results on standard output stay clean.
    every:
        Seconds between plain lines where the file is not a terminal (a terminal's line is redrawn ten times a second).

    Example
    -------
    >>> with Progress("scores", total=2, file=sys.stdout) as progress:
    ...     progress.update(1)
    ...     progress.update(2, note="1 failed")
    scores: 2 of 2, 1 failed
    """

    def __init__(
        self,
        what: str,
        *,
        total: int | None = None,
        file: IO[str] | None = None,
        every: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._total = total
        self._file = file or sys.stderr
        self._redraws = self._file.isatty()
        self._every = 0.1 if self._redraws else every
        self._clock = clock
        self._shown_at = clock()
        self._shown = ""
        self._line = ""

    def update(self, done: int, *, total: int | None = None, note: str = "") -> None:
        """Say that ``done`` are done; shown when enough time has passed."""
        self._total = self._total if total is None else total
        of = "" if self._total is None else f" of {self._total:,}"
        self._line = f"{self._what}: {done:,}{of}{', ' + note if note else ''}"
        if self._clock() - self._shown_at >= self._every:
            self._show()

    def close(self) -> None:
        """Show where it ended."""
        self._show()
        if self._redraws and self._shown:
            self._write("\n")
            self._shown = ""

    def _show(self) -> None:
        self._shown_at = self._clock()
        if self._line == self._shown:
            return
        if self._redraws:
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r{self._line[:width]:<{min(width, len(self._shown))}}")
        else:
            self._write(f"{self._line}\n")
        self._shown = self._line

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except (OSError, ValueError):  # the terminal went away; what is being counted matters more than the count
            self._file = _Nowhere()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Nowhere:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return None
