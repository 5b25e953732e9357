"""What commands share: options that mean the same everywhere, and how results are printed."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tracekeeper.reading import Table
from tracekeeper.shipper.destination import path_of
from tracekeeper.tracing import runtime
from tracekeeper.tracing.opening import enabled
from tracekeeper.types import ConfigurationError, TracekeeperError


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``: the same content for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def limit(text: str) -> int | None:
    """A number of rows, or ``all``."""
    if text == "all":
        return None
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, or all")
    return number


def seconds(text: str) -> float:
    """A positive number of seconds."""
    return _positive(text, "a positive number of seconds")


def dollars(text: str) -> float:
    """An amount above 0."""
    return _positive(text, "US dollars, more than 0")


def _positive(text: str, expected: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")
    return number


def count(text: str) -> int:
    """A whole number from 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 1 or more")
    return number


def require_tracing() -> None:
    """Refuse to do what is to be kept while tracing is turned off, instead of doing it in vain.

    Raises
    ------
    ConfigurationError
        ``TRACEKEEPER_DISABLED`` (or ``TRACEKEEPER_ENABLED``) says so.
    """
    if enabled() is None:
        raise ConfigurationError(
            "tracing is turned off (TRACEKEEPER_DISABLED), so nothing would be kept; unset it first"
        )


def require_data() -> None:
    """Refuse to read where nothing was ever written, instead of making an empty database there.

    Raises
    ------
    TracekeeperError
        The message says where it looked and what to do.
    """
    keeper = runtime.keeper()
    file = path_of(keeper.store_url)
    journals = any((keeper.directory / "journal").glob("*.journal"))
    if file is not None and not file.exists() and not journals:
        raise TracekeeperError(
            f"nothing was traced into {file if file.parent != keeper.directory else keeper.directory} yet; "
            "name another place with --directory or --store, or begin with `tracekeeper demo`"
        )


def print_table(table: Table[Any], *, as_json: bool) -> None:
    """Print a table for people, or its rows as JSON with the note on standard error."""
    if not as_json:
        table.print()
        return
    print(table.to_json(indent=2))
    if table.note:
        print(f"note: {table.note}", file=sys.stderr)
