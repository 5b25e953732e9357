"""The page ``docs/cli.md``, made from the commands themselves: ``python -m tracekeeper.cli.reference > docs/cli.md``.

A test compares the page with what this makes, so it is never out of date.
"""

from __future__ import annotations

import argparse
import sys

from tracekeeper.cli.arguments import Command, build

HEAD = """\
# The command line

`tracekeeper COMMAND …` reads and judges what programs have traced. Every command takes `--directory DIR` (the data
directory; default: the nearest `.tracekeeper` at or above the working directory), `--store URL` (default: the
database in that directory) and `--debug` (show where an error came from). Every `TRACEKEEPER_*` environment variable
counts too.

Reading commands first store what is journaled and not yet stored, also what a killed process left behind, so they show
everything that was traced before they were started. With `--json` they print the same for programs.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | something failed or is missing: a file, the store, a broken line of an import, a score, a gate of `evaluate` |
| 2 | the command cannot be carried out as written: an unknown option or metric, a filter that does not parse |
| 3 | of `evaluate`: no gate is failed, but calls have not ended, or more failed than may |
| 130 | interrupted by Ctrl-C; what was done so far is kept |
| 141 | the reader of the output went away, as in `tracekeeper records \\| head` |

An error is one message on standard error.
"""


def page() -> str:
    """The whole page."""
    _, parsers = build()
    return "\n".join([HEAD, *(section(name, parser) for name, parser in parsers.items())])


def section(name: str, parser: Command) -> str:
    """One command: what it does, its examples, its arguments."""
    module = parser.load()
    lines = [f"## tracekeeper {name}", ""]
    lines += [(module.__doc__ or "").strip(), ""]
    if hasattr(module, "EXAMPLES"):
        lines += ["```sh", module.EXAMPLES.rstrip(), "```", ""]
    rows = [f"| `{said(action)}` | {_cell(action.help)} |" for action in own_actions(parser)]
    if rows:
        lines += ["| argument | meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def own_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of a command, without those that every command has."""
    return [a for a in parser._actions if a.dest not in ("help", "directory", "store", "debug")]


def said(action: argparse.Action) -> str:
    """An argument as one types it."""
    words = ", ".join(action.option_strings)
    value = action.metavar if isinstance(action.metavar, str) and action.nargs != 0 else ""
    return f"{words} {value}".strip()


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
