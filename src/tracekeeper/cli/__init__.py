"""The command line: ``tracekeeper COMMAND``."""

from tracekeeper.cli.program import main

__all__ = ["main"]
