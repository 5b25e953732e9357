"""Metrics as commands are given them: by name, or as module:name, and with parameters."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from tracekeeper.cli.arguments import suggestion
from tracekeeper.judging import Metric, as_metrics
from tracekeeper.metrics import resolve
from tracekeeper.types import MetricError


def parameters(pairs: list[str], names: list[str]) -> dict[str, dict[str, Any]]:
    """Keyword arguments for each metric; ``length.unit=words`` is for that one only. A value that is no JSON is text.

    >>> parameters(["threshold=0.5", "Length.unit=words"], ["Length", "Pii"])
    {'Length': {'threshold': 0.5, 'unit': 'words'}, 'Pii': {'threshold': 0.5}}
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        whose, _, key = key.rpartition(".")
        if not sign or not key.isidentifier():
            raise MetricError(f"--param {pair!r}: expected NAME=VALUE, e.g. --param threshold=0.5")
        if whose and whose not in found:
            raise MetricError(f"--param {pair!r}: no --metric {whose!r} was given{suggestion(whose, names)}")
        for name in [whose] if whose else names:
            found[name][key] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def find_metrics(names: list[str], pairs: list[str], timeout: float | None) -> list[Metric]:
    """The metrics by name, made with their parameters.

    Raises
    ------
    MetricError
        Nothing of that name (the nearest is named), parameters it does not take, or the same metric twice.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: one's own modules are where one works
    given = parameters(pairs, names)
    found = [resolve(name, given[name]) for name in names]
    if timeout is not None:
        found = [metric.replace(timeout=timeout) for metric in found]
    return list(as_metrics(found, where="--metric"))
