"""How far a map is: one line that is rewritten on a terminal, a bar below the cell of a notebook, elsewhere a line on
stderr now and then.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from tracekeeper.concurrency.notebooks import Shown, notebook
from tracekeeper.concurrency.outcome import Outcome

logger = logging.getLogger("tracekeeper")

ON_TERMINAL = 0.1
"""Seconds between two looks at the line on a terminal."""
IN_NOTEBOOK = 0.25
"""The same below the cell of a notebook: each look is a message to the browser."""
ELSEWHERE = 10.0
"""Seconds between two lines in a file or a pipe; the last one always comes."""


class Progress:
    """Counts outcomes and shows them. Whatever goes wrong in showing ends the showing, never the map.

    Parameters
    ----------
    label:
        What stands in front.
    total:
        Items in all, where that is known.
    """

    def __init__(self, label: str, total: int | None) -> None:
        self._label = label
        self._total = total
        self._done = 0
        self._not_ok: dict[str, int] = {}
        self._begun = self._shown = time.monotonic()
        self._stream: Any = sys.stderr
        self._notebook = notebook(self._now())
        self._terminal = self._notebook is None and (self._safely(lambda: bool(self._stream.isatty())) or False)
        self._every = IN_NOTEBOOK if self._notebook is not None else ON_TERMINAL if self._terminal else ELSEWHERE
        self._rich: Any = None
        if self._terminal and importlib.util.find_spec("rich") is not None:
            self._rich = self._safely(self._with_rich)

    def add(self, outcome: Outcome[Any]) -> None:
        """One more has ended."""
        self._done += 1
        if outcome.status != "ok":
            self._not_ok[outcome.status] = self._not_ok.get(outcome.status, 0) + 1
        now = time.monotonic()
        if now - self._shown >= self._every:
            self._shown = now
            self._safely(self._show)

    def close(self) -> None:
        """The last line."""
        self._safely(lambda: self._show(last=True))

    def line(self) -> str:
        """What is shown: ``answers 37/100, 2 timed_out, 1.2 s``."""
        of = "" if self._total is None else f"/{self._total}"
        others = "".join(f", {count} {status}" for status, count in sorted(self._not_ok.items()))
        return f"{self._label} {self._done}{of}{others}, {time.monotonic() - self._begun:.1f} s"

    def _now(self) -> Shown:
        return Shown(self.line(), self._done, self._total)

    def _show(self, last: bool = False) -> None:
        if self._notebook is not None:
            self._notebook.show(self._now())
        elif self._rich is not None:
            bar, task = self._rich
            bar.update(task, completed=self._done, description=self.line())
            if last:
                bar.stop()
        elif self._terminal:
            self._stream.write(f"\r\x1b[K{self.line()}" + ("\n" if last else ""))
            self._stream.flush()
        else:
            self._stream.write(f"{self.line()}\n")
            self._stream.flush()

    def _with_rich(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        bar = Bar(TextColumn("{task.description}", markup=False), BarColumn(), console=Console(stderr=True))
        task = bar.add_task(self.line(), total=self._total)
        bar.start()
        return bar, task

    def _safely(self, show: Callable[[], Any]) -> Any:
        if self._stream is None and self._notebook is None:  # no stderr at all, or it failed before
            return None
        try:
            return show()
        except Exception as error:  # noqa: BLE001  closed, full, or somebody's replacement of it
            self._stream = self._rich = self._notebook = None
            logger.debug("tracekeeper: progress is not shown any more: %r", error)
            return None
