"""Something that is shown below a notebook's cell and written anew in its place, as long as the cell runs.

Nothing of Jupyter is needed or loaded for it: where no notebook runs, IPython has not been imported, and that is all
that is looked at.
"""

from __future__ import annotations

import html
import importlib
import logging
import sys
from typing import Any

logger = logging.getLogger("tracekeeper")


class Shown:
    """A line with a bar: HTML where that can be shown, else the line alone."""

    def __init__(self, line: str, done: int, total: int | None) -> None:
        self._line = line
        self._done = done
        self._total = total

    def __repr__(self) -> str:
        return self._line

    def _repr_html_(self) -> str:
        """What notebooks ask an object for.

        >>> Shown("a < b 1/4", 1, 4)._repr_html_()
        '<div><progress value="1" max="4" style="width: 16em"></progress> <code>a &lt; b 1/4</code></div>'
        """
        share = "" if self._total is None else f' value="{self._done}" max="{max(1, self._total)}"'
        bar = f'<progress{share} style="width: 16em"></progress> '
        return f"<div>{bar}<code>{html.escape(self._line)}</code></div>"


class Notebook:
    """A place below the cell that runs."""

    def __init__(self, display: Any, first: Shown) -> None:
        self._handle = display(first, display_id=True)

    def show(self, now: Shown) -> None:
        """Take the place of what was shown."""
        self._handle.update(now)


def notebook(first: Shown) -> Notebook | None:
    """Show something below the cell that runs; ``None``: no notebook runs this (a script, a terminal, also IPython's).

    A notebook that cannot show it is none.
    """
    ipython = sys.modules.get("IPython")
    if ipython is None:
        return None
    try:
        shell = ipython.get_ipython()
        if getattr(shell, "kernel", None) is None:
            return None
        return Notebook(importlib.import_module("IPython.display").display, first)
    except Exception as error:  # noqa: BLE001  half imported, or somebody's own shell
        logger.debug("tracekeeper: progress is shown as lines, not below the cell: %r", error)
        return None
