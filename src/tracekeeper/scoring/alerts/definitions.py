"""What an alert can be: what does not go together, or could never fire, is refused in one sentence when it is made."""

from __future__ import annotations

import difflib
import math
from typing import Any

from tracekeeper.store.filter import parse
from tracekeeper.store.filter.nodes import UNITS
from tracekeeper.store.filter.times import looks_like_duration, parse_duration
from tracekeeper.types import ConfigurationError, FilterError

MEASURES = ("mean", "failure_rate", "latency", "latency_p95", "cost")
SECOND = UNITS["s"]
LONGEST = 400 * 86_400.0
"""Seconds that a window may be long."""


def checked(
    name: str,
    measure: str,
    score: str | None,
    filter: str,
    above: float | None,
    below: float | None,
    min_count: int | None,
) -> dict[str, Any]:
    """The columns of a definition.

    Raises
    ------
    ConfigurationError, FilterError
    """
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"name={name!r}: an alert needs a name")
    if measure not in MEASURES:
        near = difflib.get_close_matches(str(measure), MEASURES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(MEASURES)}"
        raise ConfigurationError(f"alert {name!r}: unknown measure {measure!r}; {hint}")
    if score is not None and (not isinstance(score, str) or not score):
        raise ConfigurationError(f"alert {name!r}: score={score!r}: expected the name of a score")
    if measure == "mean" and score is None:
        raise ConfigurationError(f"alert {name!r}: the mean of which score? give score=")
    if measure.startswith("latency") and score is not None:
        raise ConfigurationError(f"alert {name!r}: {measure} is measured of calls; leave score= out")
    above, below = _threshold(name, "above", above), _threshold(name, "below", below)
    if above is None and below is None:
        raise ConfigurationError(f"alert {name!r} has no threshold; give above= or below=")
    if above is not None and below is not None and above < below:
        raise ConfigurationError(
            f"alert {name!r} would always fire: every figure is above {above:g} or below {below:g}; swap them"
        )
    _possible(name, measure, above, below)
    if not isinstance(filter, str):
        raise FilterError(f"filter={filter!r}: expected a text such as 'app = \"rag\"'")
    if filter.strip():
        parse(filter)
    least = 0 if measure == "cost" else 1
    if min_count is None:
        min_count = least
    if not isinstance(min_count, int) or isinstance(min_count, bool) or min_count < least:
        raise ConfigurationError(f"alert {name!r}: min_count={min_count!r}: expected a whole number, {least} or more")
    return {
        "measure": measure,
        "score": score,
        "filter": filter,
        "above": above,
        "below": below,
        "min_count": min_count,
    }


def _threshold(name: str, which: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigurationError(f"alert {name!r}: {which}={value!r}: expected a number")
    return float(value)


def _possible(name: str, measure: str, above: float | None, below: float | None) -> None:
    """Refuse a threshold that no figure can ever pass."""
    if measure == "mean":
        return
    most = 1.0 if measure == "failure_rate" else math.inf
    never = (above is None or above >= most) and (below is None or below <= 0)
    if never:
        scale = "between 0 and 1" if measure == "failure_rate" else "0 or more"
        raise ConfigurationError(f"alert {name!r} could never fire: {measure} is always {scale}")


def duration(name: str, value: Any, *, least: float) -> int:
    """Nanoseconds of a number of seconds, or of a text such as ``1h30m``.

    Raises
    ------
    ConfigurationError
    """
    wrong = f"{name}={value!r}: expected seconds or a text such as 30m, 1h, 7d"
    try:
        if isinstance(value, str) and looks_like_duration(value.strip()):
            seconds = parse_duration(value.strip()) / SECOND
        elif isinstance(value, bool):
            raise ConfigurationError(wrong)
        else:
            seconds = float(value)
    except (TypeError, ValueError) as error:
        why = f"; {error}" if isinstance(value, str) and looks_like_duration(value.strip()) else ""
        raise ConfigurationError(f"{wrong}{why}") from None
    if not least <= seconds <= LONGEST:
        raise ConfigurationError(f"{name}={value!r}: expected {least:g} s to 400 days")
    return round(seconds * SECOND)
