"""Compare app versions: what their metrics say on average, over how many records, how fast and at what cost."""

from __future__ import annotations

import argparse

from tracekeeper.cli.output import add_json, print_table, require_data
from tracekeeper.reading import leaderboard
from tracekeeper.reading.fresh import checked

EXAMPLES = """\
tracekeeper leaderboard
tracekeeper leaderboard 'app = "rag" and environment = "prod"'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("filter", metavar="FILTER", nargs="?", help="which records count (default: all)")
    add_json(parser)


def run(parsed: argparse.Namespace) -> int:
    """Print it."""
    checked(parsed.filter)
    require_data()
    print_table(leaderboard(parsed.filter), as_json=parsed.json)
    return 0
