"""Ask an example app about Tracekeeper's own documentation, in two versions, and see calls and scores arrive.

Runs offline, in well under a minute. The data goes to .tracekeeper in the working directory unless --directory says
otherwise; the code to read is tracekeeper/demo/app.py.
"""

from __future__ import annotations

import argparse

from tracekeeper.cli.output import require_tracing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments: none of its own."""


def run(parsed: argparse.Namespace) -> int:
    """Run the demo."""
    require_tracing()
    from tracekeeper.demo.run import run as run_demo  # its app is made at import, so after --directory was heard

    return run_demo()
