"""One run, its checks, and what is said about them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.chaos import truth
from tests.chaos.checks import Check, Fate, Violation
from tests.chaos.conductor import Conductor

SHOWN = 5
"""Violations of one check that are told with their whole history."""


class Result(NamedTuple):
    """A run and what the checks found."""

    seed: int
    folder: Path
    conductor: Conductor
    check: Check
    violations: list[Violation]

    def text(self) -> str:
        """The summary: what was done, what was counted, what is wrong."""
        lines = [f"seed {self.seed}", "", *_table("what was done", self.conductor.done)]
        lines += ["", *_table("what was counted", self.check.counts), ""]
        shown = Counter[str]()
        for violation in self.violations:
            shown[violation.check] += 1
            if shown[violation.check] <= SHOWN:
                lines.append(f"VIOLATION {violation.check}: {violation.text}")
                if violation.key is not None:
                    lines.append(self.check.history(violation.key))
        total = len(self.violations)
        lines += [f"{check}: {count} violations" for check, count in shown.items()]
        if total:
            lines.append(f"{total} violations with seed {self.seed}; everything is kept in {self.folder}")
        else:
            lines.append("no violation: every record has every score, once, with a state and the value it must have")
        return "\n".join(lines)

    def forget(self) -> None:
        """Remove what the run left, when nothing is wrong with it."""
        if not self.violations:
            shutil.rmtree(self.folder, ignore_errors=True)


def chaos(
    seed: int,
    seconds: float,
    *,
    settle: float,
    calm: bool = False,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Run chaos and check what it left.

    Parameters
    ----------
    seed:
        Of everything that is drawn.
    seconds:
        Duration of the chaos.
    settle:
        Seconds that one healthy worker may take afterwards.
    calm:
        Do nothing bad: for tests of the checks.
    folder:
        Where to; made anew by default.
    """
    folder = folder or Path(tempfile.mkdtemp(prefix="tracekeeper-chaos-"))
    conductor = Conductor(folder, seed, calm=calm)
    if not conductor.clocks:
        say("clocks are not stepped: there is no C compiler here")
    say(f"the disk is filled {'on a file system of its own' if conductor.disk.mounted else 'at the fault points only'}")
    try:
        conductor.run(seconds, settle=settle, say=say)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return examine(conductor)


def examine(conductor: Conductor) -> Result:
    """The checks of a run that is over."""
    logs = [truth.read(child.name, child.log) for child in conductor.children.all if child.kind == "app"]
    fates = [
        Fate(child.name, child.kind, child.process.pid, child.code, child.told, tuple(child.stops), child.stepped)
        for child in conductor.children.all
    ]
    said = conductor.folder / "status.json"
    status = json.loads(said.read_text() or "{}") if said.exists() else {}
    check = Check(conductor.kept, logs, fates, status)
    violations = [Violation("order", problem) for problem in conductor.problems] + check.run()
    return Result(conductor.seed, conductor.folder, conductor, check, violations)


def _table(title: str, counts: Counter[str]) -> list[str]:
    width = max((len(name) for name in counts), default=0)
    return [f"| {title:<{width}} | {'':>9} |", f"| {'-' * width} | {'-' * 9} |"] + [
        f"| {name:<{width}} | {count:>9,} |" for name, count in sorted(counts.items())
    ]
