"""The arguments of every command, and what a mistyped one is answered with."""

from __future__ import annotations

import argparse
import difflib
import importlib
import textwrap
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any, NoReturn

import tracekeeper
from tracekeeper.configuration import configure as configure_settings

COMMANDS = {
    "demo": "ask an example app about Tracekeeper's documentation, and see its scores",
    "records": "list records, with or without their scores",
    "show": "show one record with its spans and scores",
    "leaderboard": "compare app versions: scores, latency, cost",
    "alerts": "thresholds on rolling figures, told to a webhook: list, add, remove, test",
    "status": "what was journaled, stored, is pending or dropped, and what still runs",
    "evaluate": "call a task with every item of a dataset, judge the calls, and say whether a build may pass",
    "score": "judge stored records by metrics",
    "worker": "compute scores that wait in the store: deferred ones, online rules', what ended processes left",
    "rules": "metrics that judge records as they arrive: list, add, show, pause, resume, remove, test",
    "datasets": "versioned items to evaluate with: list, show, import, export, diff",
    "import": "make records from a file: JSON Lines, JSON or CSV",
}
"""Name and one line of help. Each command has a module by its name beside this one, imported when the command is."""


class Parser(argparse.ArgumentParser):
    """An argument parser that answers in one sentence, with the nearest thing it knows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"tracekeeper: {message}; see: {self.prog} --help\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(None, f"unknown command {value!r}{suggestion(value, action.choices)}")

    def options(self) -> list[str]:
        """Every option it knows."""
        return [option for action in self._actions for option in action.option_strings]


class Command(Parser):
    """The parser of one command, empty until a command line says it: its module is imported then, and no other."""

    def __init__(self, *args: Any, command: str, **kwargs: Any) -> None:
        super().__init__(*args, parents=[_common()], formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        self.command = command
        self.module: ModuleType | None = None

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """As of any parser: here argparse comes once the command's word was read, also for its ``--help``."""
        self.load()
        return super().parse_known_args(*args, **kwargs)

    def load(self) -> ModuleType:
        """Import the module and declare its arguments, unless that is done."""
        if self.module is None:
            self.module = module = importlib.import_module(f"tracekeeper.cli.{module_name(self.command)}")
            self.description = module.__doc__
            if hasattr(module, "EXAMPLES"):
                self.epilog = f"examples:\n{textwrap.indent(module.EXAMPLES, '  ')}"
            module.add_arguments(self)
            self.set_defaults(run=module.run)
        return self.module


def suggestion(typed: str, known: Iterable[str]) -> str:
    """What to add to "unknown …": the nearest known word, or all of them.

    >>> suggestion("recrods", ["records", "status"])
    "; did you mean 'records'?"
    >>> suggestion("x", ["records", "status"])
    '; known: records, status'
    """
    known = list(known)
    near = difflib.get_close_matches(typed, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse a command line. Exits (``SystemExit``) after ``--help``, ``--version`` and on a usage error."""
    parser, commands = build()
    parsed, rest = parser.parse_known_args(words)
    parsed.command_line = list(words)
    if parsed.command is None:
        parser.print_help()
        parser.exit(2)
    if rest:
        chosen = commands[parsed.command]
        word = next((word for word in rest if word.startswith("-")), None)
        if word is None:
            chosen.error(f"unexpected argument {rest[0]!r}")
        option = word.split("=", 1)[0]
        near = difflib.get_close_matches(option, chosen.options(), n=1)
        chosen.error(f"unknown option {option}{f'; did you mean {near[0]}?' if near else ''}")
    return parsed


def build() -> tuple[Parser, dict[str, Command]]:
    """The parser, and those of the commands by name."""
    parser = Parser(
        prog="tracekeeper",
        description="Trace and evaluate LLM applications: nothing hangs, nothing is lost, every score has a state.",
        epilog="Exit codes: 0 done; 1 something failed or is missing; 2 the command cannot be carried out as written.",
        parents=[_common()],
    )
    parser.add_argument("--version", action="version", version=f"tracekeeper {tracekeeper.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Command)
    commands = {name: subparsers.add_parser(name, command=name, help=help) for name, help in COMMANDS.items()}
    return parser, commands


def module_name(command: str) -> str:
    """The name of a command's module."""
    return "import_file" if command == "import" else command  # `import` is a word of the language


def _common() -> Parser:
    # SUPPRESS: given before the command or after it, and the later one does not reset what the earlier one said.
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("where the data is")
    group.add_argument("--directory", metavar="DIR", help="data directory (default: the nearest .tracekeeper)")
    group.add_argument("--store", metavar="URL", help="database: sqlite:///path.db (default: in the data directory)")
    common.add_argument("--debug", action="store_true", help="show where an error came from")
    return common


def configure(parsed: argparse.Namespace) -> None:
    """Carry ``--directory`` and ``--store`` into the settings of the process."""
    given = {name: getattr(parsed, name) for name in ("directory", "store") if getattr(parsed, name, None) is not None}
    if given:
        configure_settings(**given)
