"""What was journaled and stored, what is pending, running or dropped and why, who is at work, and where each call is.

With --watch it is drawn anew until Ctrl-C. It works while the database is locked: what the processes of this machine
say of themselves needs no database.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from tracekeeper.cli import status_view as view
from tracekeeper.cli.output import add_json, require_data, seconds
from tracekeeper.reading.columns import json_text
from tracekeeper.reading.live import live_status
from tracekeeper.render import display_width, render_key_values, truncate

EXAMPLES = """\
tracekeeper status
tracekeeper status --json
tracekeeper status --watch --interval 2 --stacks
"""

PATIENCE = 5.0
"""Seconds for bringing into the store what is journaled, when it is looked at once."""
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
CLEAR = "\x1b[2J"
REST = 4
"""Of the processor's time looking takes one part in so many and one, at most: a large store is looked at less often."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--watch", action="store_true", help="draw it anew until Ctrl-C; with --json a line each time")
    parser.add_argument(
        "--interval", metavar="SECONDS", type=seconds, default=1.0, help="between two drawings (default: 1)"
    )
    parser.add_argument("--stacks", action="store_true", help="show the whole stack of each call that runs")
    add_json(parser)


def run(parsed: argparse.Namespace) -> int:
    """Print it. 1 when the store cannot be read or something is not stored; 0 when watching ends."""
    require_data()
    if parsed.watch:
        return watch(parsed)
    found = live_status(timeout=PATIENCE)
    print(json_text(found, indent=2) if parsed.json else as_text(found, stacks=parsed.stacks))
    return 1 if found["store_error"] or found["note"] else 0


def watch(parsed: argparse.Namespace, sleep: Callable[[float], None] = time.sleep) -> int:
    """Print it again and again, until Ctrl-C."""
    drawn = sys.stdout.isatty() and not parsed.json and os.environ.get("TERM") != "dumb"
    try:
        if drawn:
            sys.stdout.write(CLEAR)
        while True:
            began, busy = time.monotonic(), time.process_time()
            found = live_status(timeout=min(1.0, parsed.interval))
            if parsed.json:
                print(json_text(found), flush=True)
            else:
                text = f"{time.strftime('%H:%M:%S')}, every {parsed.interval:g} s; Ctrl-C ends\n"
                text += as_text(found, stacks=parsed.stacks)
                sys.stdout.write(on_screen(text) if drawn else f"{text}\n\n")
                sys.stdout.flush()
            # What it computed is what it costs; waiting for a database that is locked costs nobody anything.
            busy = time.process_time() - busy
            sleep(max(0.0, began + parsed.interval - time.monotonic(), REST * busy))
    except KeyboardInterrupt:
        if drawn:
            print()
        return 0


def on_screen(text: str) -> str:
    """A text over what is on the terminal: without blinking, and no longer than the terminal is high."""
    width, height = shutil.get_terminal_size(fallback=(100, 40))
    lines = text.splitlines()
    if len(lines) > height - 1:
        more = len(lines) - height + 2
        lines = [*lines[: height - 2], f"… {more} more lines; `tracekeeper status` shows all"]
    drawn = "".join(f"{_fitted(line, width)}\x1b[K\n" for line in lines)
    return f"\x1b[H{drawn}\x1b[J"


def _fitted(line: str, width: int) -> str:
    """A line that is too long would wrap and push the others off the screen."""
    plain = _COLORS.sub("", line)
    return line if display_width(plain) <= width else truncate(plain, width)


def as_text(found: dict[str, Any], *, stacks: bool = False) -> str:
    """The account for people."""
    parts = [render_key_values(view.overview(found), width=WHOLE)]
    sections = (
        ("processes", view.processes),
        ("running, the oldest first", view.running),
        ("held up: they were given up and have not come back", view.held_up),
        ("waiting for somebody to compute them", view.waiting),
        ("rules", view.rules),
        ("alerts", view.alerts),
        ("journals on disk", view.journals),
        (f"open scores, the oldest {len(found.get('open') or ())}", view.open_scores),
    )
    parts += [f"{title}\n{text}" for title, section in sections if (text := section(found))]
    if stacks and (text := view.stacks(found)):
        parts.append(f"stacks, innermost first\n{text}")
    return "\n\n".join(parts)


WHOLE = 10_000
"""Columns of the overview: an error that is cut has lost its end, which says what to do. The terminal wraps it."""
