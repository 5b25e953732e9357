"""What can be said about a metric besides its function, and the checks of each value."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Literal, TypedDict, TypeVar

from tracekeeper.judging.results import Range
from tracekeeper.types import MetricError, MetricMode, ScoreSource

Direction = Literal["maximize", "minimize"]
Isolation = Literal["thread", "process"]
SMALLEST_MEMORY_LIMIT = 1 << 20
"""Bytes. Less is probably meant in another unit."""
_NAME_LIMIT = 200
E = TypeVar("E", bound=StrEnum)


class MetricOptions(TypedDict, total=False):
    """The keywords of ``tk.metric`` that every built-in metric takes too. ``tk.metric`` says what each means."""

    name: str | None
    names: Iterable[str] | None
    version: str | None
    mode: MetricMode | Literal["background", "inline", "deferred", "off"]
    timeout: float
    retries: int
    sample: float
    direction: Direction | None
    range: Range | None
    source: ScoreSource | Literal["code", "llm", "human"]
    requires: Iterable[str]
    needs_live: bool
    accept_cut: bool
    traced: bool
    priority: int
    concurrency: int | None
    isolation: Isolation
    memory_limit: int | None


DEFAULTS: dict[str, Any] = {
    "name": None,
    "names": None,
    "version": None,
    "mode": MetricMode.BACKGROUND,
    "timeout": 60.0,
    "retries": 0,
    "sample": 1.0,
    "direction": None,
    "range": None,
    "source": ScoreSource.CODE,
    "requires": (),
    "needs_live": False,
    "accept_cut": False,
    "traced": False,
    "priority": 0,
    "concurrency": None,
    "isolation": "thread",
    "memory_limit": None,
}


def checked(where: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options in their final form.

    Raises
    ------
    MetricError
        One sentence: the option, its value, what is allowed.
    """
    done = {}
    for option, value in options.items():
        check = _CHECKS.get(option)
        if check is None:
            near = difflib.get_close_matches(option, DEFAULTS, n=1)
            hint = f"; did you mean {near[0]}=?" if near else f"; known: {', '.join(DEFAULTS)}"
            raise MetricError(f"{where}: unknown option {option!r}{hint}")
        done[option] = check(f"{where}: {option}={_shown(value)}", value)
    return done


def _name(said: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise MetricError(f"{said}: expected a name")
    if len(value) > _NAME_LIMIT or not value.isprintable() or value != value.strip():
        raise MetricError(f"{said}: expected a name of at most {_NAME_LIMIT} printable characters")
    return value


def _optional_name(said: str, value: Any) -> str | None:
    return None if value is None else _name(said, value)


def _names(said: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise MetricError(f"{said}: expected a list of names, one for each key that the metric returns")
    names = tuple(_name(f"{said}, {name!r}", name) for name in value)
    if not names:
        raise MetricError(f"{said}: expected at least one name")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MetricError(f"{said}: {', '.join(map(repr, twice))} is given twice")
    return names


def _version(said: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return _name(said, value)


def _timeout(said: str, value: Any) -> float:
    if not _is_number(value) or not 0 < value <= 1e9:
        raise MetricError(f"{said}: expected a positive number of seconds")
    return float(value)


def _retries(said: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100:
        raise MetricError(f"{said}: expected a whole number, 0 to 100")
    return int(value)


def _sample(said: str, value: Any) -> float:
    if not _is_number(value) or not 0 <= value <= 1:
        raise MetricError(f"{said}: expected a share between 0 and 1")
    return float(value)


def _mode(said: str, value: Any) -> MetricMode:
    return _one_of(said, value, MetricMode)


def _source(said: str, value: Any) -> ScoreSource:
    return _one_of(said, value, ScoreSource)


def _direction(said: str, value: Any) -> Direction | None:
    if value not in (None, "maximize", "minimize"):
        near = difflib.get_close_matches(str(value), ["maximize", "minimize"], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise MetricError(f"{said}: expected 'maximize', 'minimize' or None{hint}")
    return value  # type: ignore[no-any-return]


def _range(said: str, value: Any) -> Range | None:
    if value is None:
        return None
    ends = tuple(value) if isinstance(value, tuple | list) else ()
    good = len(ends) == 2 and all(end is None or (_is_number(end) and math.isfinite(end)) for end in ends)
    if not good or (None not in ends and ends[0] >= ends[1]):
        raise MetricError(f"{said}: expected (low, high) with low < high; None where there is no bound")
    low, high = ends
    return (None if low is None else float(low), None if high is None else float(high))


def _requires(said: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise MetricError(f"{said}: expected a list of names, e.g. ['vaderSentiment']")
    return tuple(_name(said, name) for name in value)


def _priority(said: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -1_000 <= value <= 1_000:
        raise MetricError(f"{said}: expected a whole number, -1000 (first) to 1000 (last)")
    return int(value)


def _concurrency(said: str, value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise MetricError(f"{said}: expected a whole number of at least 1, or None for no limit of its own")
    return int(value)


def _isolation(said: str, value: Any) -> Isolation:
    if value not in ("thread", "process"):
        near = difflib.get_close_matches(str(value), ["thread", "process"], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise MetricError(f"{said}: expected 'thread' or 'process'{hint}")
    return value  # type: ignore[no-any-return]


def _memory_limit(said: str, value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < SMALLEST_MEMORY_LIMIT:
        raise MetricError(f"{said}: expected a number of bytes, at least {SMALLEST_MEMORY_LIMIT:,}, or None")
    return int(value)


def _flag(said: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise MetricError(f"{said}: expected True or False")
    return value


def _one_of(said: str, value: Any, kind: type[E]) -> E:
    try:
        return kind(value)
    except ValueError:
        near = difflib.get_close_matches(str(value), list(kind), n=1)
        hint = f"; did you mean {str(near[0])!r}?" if near else ""
        raise MetricError(f"{said}: expected one of {', '.join(kind)}{hint}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _shown(value: Any) -> str:
    text = repr(str(value)) if isinstance(value, StrEnum) else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


_CHECKS: dict[str, Any] = {
    "name": _optional_name,
    "names": _names,
    "version": _version,
    "mode": _mode,
    "timeout": _timeout,
    "retries": _retries,
    "sample": _sample,
    "direction": _direction,
    "range": _range,
    "source": _source,
    "requires": _requires,
    "needs_live": _flag,
    "accept_cut": _flag,
    "traced": _flag,
    "priority": _priority,
    "concurrency": _concurrency,
    "isolation": _isolation,
    "memory_limit": _memory_limit,
}
