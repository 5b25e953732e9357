"""The options of ``tk.evaluate``: their types, defaults and checks, once for both doors."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict

from tracekeeper.concurrency.map_options import CONCURRENCY, TIMEOUT
from tracekeeper.evaluation.datasets.filtering import ItemFilter
from tracekeeper.evaluation.executors.executor import Executor
from tracekeeper.evaluation.plan import GivenMetric
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.whole import RunMetric
from tracekeeper.types import ConfigurationError

ExecutorName = Literal["local", "ray"]
Isolation = Literal["thread", "process"]


class EvaluateOptions(TypedDict, total=False):
    """See ``evaluate``."""

    metrics: Iterable[GivenMetric]
    name: str | None
    version: str | None
    concurrency: int
    timeout: float | None
    retries: int
    repeats: int
    max_failures: int | None
    budget: float | None
    mapping: Mapping[str, str]
    filter: ItemFilter | None
    sample: float | None
    seed: int
    experiment_metrics: Iterable[RunMetric]
    executor: ExecutorName | Executor
    isolation: Isolation
    progress: bool
    on_result: Callable[[ItemResult], object] | None


DEFAULTS: dict[str, Any] = {
    "metrics": (),
    "name": None,
    "version": None,
    "concurrency": CONCURRENCY,
    "timeout": TIMEOUT,
    "retries": 0,
    "repeats": 1,
    "max_failures": None,
    "budget": None,
    "mapping": {},
    "filter": None,
    "sample": None,
    "seed": 0,
    "experiment_metrics": (),
    "executor": "local",
    "isolation": "thread",
    "progress": False,
    "on_result": None,
}
KEPT = ("concurrency", "timeout", "retries", "repeats", "max_failures", "budget", "isolation")
"""Options that are stored with the experiment, so that a resume goes the same way."""


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """All options, defaults filled in.

    Raises
    ------
    ConfigurationError
        One that is unknown (the nearest is named), or a value that cannot work.
    """
    for name in given:
        if name not in DEFAULTS:
            near = difflib.get_close_matches(name, DEFAULTS, n=1)
            hint = f"did you mean {near[0]}=?" if near else f"known: {', '.join(DEFAULTS)}"
            raise ConfigurationError(f"evaluate has no option {name}=; {hint}")
    options = {**DEFAULTS, **given}
    _whole(options, "concurrency", 1)
    _whole(options, "retries", 0)
    _whole(options, "repeats", 1)
    _number(options, "timeout")
    _number(options, "budget")
    if options["max_failures"] is not None:
        _whole(options, "max_failures", 0)
    if options["name"] is not None and (not isinstance(options["name"], str) or not options["name"].strip()):
        raise ConfigurationError(f"name={options['name']!r}: expected the experiment's name as text")
    if not isinstance(options["mapping"] or {}, Mapping):
        raise ConfigurationError(f"mapping={options['mapping']!r}: expected {{argument of a metric: field}}")
    if options["on_result"] is not None and not callable(options["on_result"]):
        raise ConfigurationError(f"on_result={options['on_result']!r}: expected a function of an ItemResult")
    executor = options["executor"]
    able = all(callable(getattr(executor, name, None)) for name in ("run", "arun", "stop"))
    if executor not in ("local", "ray") and (not able or isinstance(executor, type)):
        raise ConfigurationError(f"executor={executor!r}: expected 'local', 'ray' or an object with run, arun and stop")
    if options["isolation"] not in ("thread", "process"):
        raise ConfigurationError(f"isolation={options['isolation']!r}: expected 'thread' or 'process'")
    if options["isolation"] == "process" and executor != "local":
        raise ConfigurationError("isolation='process' goes with executor='local': another one says where calls run")
    return options


def _whole(options: Mapping[str, Any], name: str, least: int) -> None:
    value = options[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name}={value!r}: expected a whole number, {least} or more")


def _number(options: Mapping[str, Any], name: str) -> None:
    value = options[name]
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigurationError(f"{name}={value!r}: expected a number greater than 0, or None for no limit")


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """What ``help`` and editors show of a door: every option by its name, with its default."""
    given = [one for one in inspect.signature(function).parameters.values() if one.kind is not one.VAR_KEYWORD]
    types = EvaluateOptions.__annotations__
    named = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[name])
        for name, default in DEFAULTS.items()
    ]
    return inspect.Signature([*given, *named], return_annotation=inspect.signature(function).return_annotation)
