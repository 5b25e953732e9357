"""List the records that a filter selects, newest first."""

from __future__ import annotations

import argparse

from tracekeeper.cli.output import add_json, limit, print_table, require_data
from tracekeeper.reading import records, records_and_scores
from tracekeeper.reading.fresh import checked

EXAMPLES = """\
tracekeeper records
tracekeeper records 'app = "rag" and status = error' --limit 20
tracekeeper records 'score.groundedness < 0.5' --scores
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("filter", metavar="FILTER", nargs="?", help="which records (default: all)")
    parser.add_argument("--limit", metavar="N", type=limit, default=50, help="how many at most, or all (default: 50)")
    parser.add_argument("--scores", action="store_true", help="with every score: value, status and reason")
    add_json(parser)


def run(parsed: argparse.Namespace) -> int:
    """Print them."""
    checked(parsed.filter)
    require_data()
    read = records_and_scores if parsed.scores else records
    print_table(read(parsed.filter, limit=parsed.limit), as_json=parsed.json)
    return 0
