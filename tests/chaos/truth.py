"""What the apps did, from their own logs: the truth that what is stored is held to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import chaos_metrics as metrics
from chaos_metrics import Expected

Key = tuple[str, str]
"""Trace id and span id of a record."""


LISTED = {"steady": metrics.STEADY, "hanging": metrics.HANGING, "deferred": metrics.DEFERRED, "apart": metrics.APART}
MORE = {"steady": {metrics.LOCAL, metrics.RULED}, "deferred": {metrics.NOBODYS}}
SAMPLED = {metrics.NOBODYS, metrics.RULED}


class Call(NamedTuple):
    """One call of an app."""

    child: str
    app: str
    question: str
    key: Key
    returned: bool
    """Whether its caller got it back, by a result or by its exception; else its process was killed before."""

    @property
    def raised(self) -> bool:
        return self.question.endswith("!")


class Log(NamedTuple):
    """What one app did."""

    child: str
    calls: list[Call]
    asked: set[str]
    """Questions whose call was about to begin, whatever became of it."""
    waits: list[dict[str, Any]]
    receipts: list[dict[str, Any]]
    left: dict[str, Any] | None
    """Its last receipt, when it left by itself."""


def read(child: str, path: Path) -> Log:
    """The log of one app; a last line that is cut is none."""
    began: dict[str, dict[str, Any]] = {}
    asked, returned = set[str](), set[str]()
    waits, receipts, left = [], [], None
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            told = json.loads(line)
        except json.JSONDecodeError:
            continue
        match told["what"]:
            case "began":
                began[told["question"]] = told
            case "asks":
                asked.add(told["question"])
            case "ended":
                returned.add(told["question"])
            case "waited":
                waits.append(told)
            case "receipt":
                receipts.append(told)
            case "left":
                left = told
                receipts.append(told)
    calls = [
        Call(child, told["app"], question, (told["trace"], told["span"]), question in returned)
        for question, told in began.items()
    ]
    return Log(child, calls, asked, waits, receipts, left)


def names_of(app: str) -> set[str]:
    """The scores that a record of an app must have."""
    return {name for metric in LISTED[app] for name in metric.names} | MORE.get(app, set())


def is_local(name: str) -> bool:
    """Whether only the process of the call could compute it."""
    return name == metrics.LOCAL


def expected(call: Call, name: str) -> Expected:
    """What a score of a call must say when nothing came between."""
    if call.raised:
        return Expected("skipped")
    return metrics.expected(name, call.question)


def timeouts() -> dict[str, float]:
    """Seconds that a metric has, by the name of its scores; of those that have less than the default."""
    every = [metric for listed in LISTED.values() for metric in listed]
    return {name: metric.timeout for metric in every for name in metric.names if metric.timeout < 60}
