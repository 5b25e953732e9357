"""From whatever a metric returned to scores. Total: any object gives scores, none raises, none is a NaN.

What is allowed: a finite number (int, float, Decimal, Fraction, a numpy or torch scalar), a bool, a label (text), an
Enum member whose value is one of these, ``(value, reason)``, a ``Score``, and a mapping of them when the metric
declares its ``names``. ``None`` means that the metric has nothing to say: ``skipped``. Everything else is ``failed``
with a reason that names the type, because a silent conversion would put a wrong number into an average.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from inspect import iscoroutine
from numbers import Number
from reprlib import Repr
from typing import Any

import msgspec

from tracekeeper.types import Score, ScoreStatus

LABEL_LIMIT = 500
"""Characters kept of a label: it is a name to count by, not a text."""
REASON_LIMIT = 20_000
ALLOWED = "a number, a bool, a label, (value, reason), a Score or None"
Range = tuple[float | None, float | None]
_reprs = Repr()  # bounded: a metric may return a list of a million
_reprs.maxstring = _reprs.maxother = 100
_TOLERANCE = 1e-9  # rounding in 0.1 + 0.2 style sums must not fail a score that is 1.0000000000000002


def scores(
    result: Any, *, name: str, parts: tuple[str, ...] | None = None, bounds: Range | None = None
) -> list[tuple[str, Score]]:
    """The scores of one result, by their full names; never raises.

    ``parts`` are the declared names of a metric that returns a mapping; each gets exactly one score.
    """
    try:
        if parts is None:
            return [(name, one(result, bounds=bounds))]
        return _several(result, name, parts, bounds)
    except BaseException as error:  # noqa: BLE001  the object is user code (__float__, __class__, keys()): it may do anything
        failed = _failed(f"what the metric returned cannot be read: {_describe(error)}")
        return [(full, failed) for full in full_names(name, parts)]


def full_names(name: str, parts: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names under which a metric's scores are stored."""
    return (name,) if parts is None else tuple(f"{name}.{part}" for part in parts)


def one(result: Any, *, bounds: Range | None = None) -> Score:
    """The score of one value, with ``bounds`` applied."""
    score = _convert(result)
    return score if bounds is None else _within(score, bounds)


def _several(result: Any, name: str, parts: tuple[str, ...], bounds: Range | None) -> list[tuple[str, Score]]:
    if (isinstance(result, Score) and result.status != ScoreStatus.SCORED) or result is None:
        whole = one(result)  # the metric declines, or says that it failed, for all its names
        return [(full, whole) for full in full_names(name, parts)]
    if not isinstance(result, Mapping):
        _discard(result)
        failed = _failed(
            f"the metric returned {_type(result)}; it declares names={list(parts)}, so a mapping is expected"
        )
        return [(full, failed) for full in full_names(name, parts)]
    values = dict(result)
    found: list[tuple[str, Score]] = []
    for part in parts:
        if part in values:
            found.append((f"{name}.{part}", one(values.pop(part), bounds=bounds)))
        else:
            found.append((f"{name}.{part}", _skipped(f"the metric returned nothing for {part!r}")))
    if values:
        unknown = ", ".join(_short(key) for key in list(values)[:5]) + (", …" if len(values) > 5 else "")
        found.append((name, _failed(f"the metric returned undeclared names: {unknown}; declared: {', '.join(parts)}")))
    return found


def _convert(result: Any) -> Score:
    if isinstance(result, Score):
        return _from_score(result)
    if isinstance(result, tuple) and len(result) == 2:
        return _from_pair(result)
    if result is None:
        return _skipped("the metric returned None")
    plain = _plain_value(result)
    if isinstance(plain, _Refused):
        return _failed(plain.reason)
    if isinstance(plain, str):
        return _label(plain)
    return Score(plain)


class _Refused:
    def __init__(self, reason: str) -> None:
        self.reason = reason


def _plain_value(value: Any) -> float | bool | str | _Refused:
    """A bool, a finite float or a text; else why not."""
    if isinstance(value, Enum):
        inner = value.value
        value = inner if isinstance(inner, int | float | str) else value.name
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if not isinstance(value, int | float | Number):
        value = _unwrapped_scalar(value)
        if isinstance(value, bool | str | _Refused):
            return value
    if isinstance(value, complex):
        return _Refused(f"the metric returned a complex number; allowed: {ALLOWED}")
    try:
        number = float(value)
    except OverflowError:
        return _Refused("the metric returned a number too large for a 64-bit float")
    except (TypeError, ValueError):  # a signalling Decimal NaN, or a Number that is none
        return _Refused(f"the metric returned {_short(value)}, which is not a number")
    if not math.isfinite(number):
        return _Refused(f"the metric returned {number}, which is not a number")
    return number


def _unwrapped_scalar(value: Any) -> Any:
    """What is inside a numpy or torch scalar (recognised by shape, so that neither is imported)."""
    item = getattr(value, "item", None)
    shape = getattr(value, "shape", None)
    if callable(item) and isinstance(shape, tuple):
        if len(shape) == 0:
            inner = item()
            if isinstance(inner, bool | int | float | str):
                return inner
        else:
            return _Refused(
                f"the metric returned {_type(value)} of shape {tuple(shape)}; allowed: {ALLOWED} (return one number)"
            )
    _discard(value)
    hint = "; declare names=[…] to return a mapping" if isinstance(value, Mapping) else ""
    return _Refused(f"the metric returned {_type(value)}; allowed: {ALLOWED}{hint}")


def _from_pair(pair: tuple[Any, Any]) -> Score:
    value, reason = pair
    if reason is None or isinstance(reason, str):
        metadata = None
    elif isinstance(reason, Mapping):  # (value, {"reason": …}), as judges of other libraries return it
        metadata = _plain_metadata(reason)
        found = reason.get("reason", reason.get("reasons"))
        reason = found if isinstance(found, str) else None
    else:
        return _failed(f"the metric returned a tuple whose second part is {_type(reason)}; allowed: (value, reason)")
    if isinstance(value, tuple):
        return _failed(f"the metric returned a tuple within a tuple; allowed: {ALLOWED}")
    score, said = _convert(value), clean(reason)
    if said is None:
        said = score.reason
    elif score.status is not ScoreStatus.SCORED and value is not None:
        said = f"{score.reason} ({said})"
    return score.replace(reason=said, metadata=metadata if metadata is not None else score.metadata)


def _from_score(score: Score) -> Score:
    try:
        status = ScoreStatus(score.status)
    except ValueError:
        return _failed(f"the metric returned a Score with the unknown status {_short(score.status)}")
    reason = clean(score.reason)
    common: dict[str, Any] = {
        "reason": reason,
        "metadata": _plain_metadata(score.metadata),
        "cost": _cost(score.cost),
        "error": clean(score.error),
        "traceback": clean(score.traceback),
    }
    if not status.final:
        return Score(
            None, status=ScoreStatus.FAILED, **(common | {"reason": f"the metric returned a Score that is {status}"})
        )
    if status is not ScoreStatus.SCORED:
        return Score(
            None, status=status, **(common | {"reason": reason or f"the metric returned a Score that is {status}"})
        )
    if score.value is None:
        return Score(
            None, status=ScoreStatus.SKIPPED, **(common | {"reason": reason or "the metric returned no value"})
        )
    if isinstance(score.value, Score | tuple):
        return _failed(
            f"the metric returned a Score whose value is {_type(score.value)}; allowed: a number, a bool, a label"
        )
    inner = _convert(score.value)
    if inner.status is ScoreStatus.SCORED:
        common["reason"] = "; ".join(part for part in (reason, inner.reason) if part) or None
    else:
        common["reason"] = f"{inner.reason} ({reason})" if reason else inner.reason
    return Score(inner.value, status=inner.status, **common)


def _within(score: Score, bounds: Range) -> Score:
    value = score.value
    if score.status is not ScoreStatus.SCORED or isinstance(value, bool | str) or value is None:
        return score
    low, high = bounds
    if low is not None and value < low:
        nearest = low
    elif high is not None and value > high:
        nearest = high
    else:
        return score
    if math.isclose(value, nearest, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
        return score.replace(value=float(nearest))
    said = f" ({score.reason})" if score.reason else ""
    return score.replace(
        value=None,
        status=ScoreStatus.FAILED,
        reason=f"the metric returned {value:g}, outside its declared range {range_text(bounds)}{said}",
        metadata={**(score.metadata or {}), "returned": value},
    )


def range_text(bounds: Range) -> str:
    """A range in words."""
    low, high = bounds
    if high is None:
        return "of any number" if low is None else f"of at least {low:g}"
    return f"of at most {high:g}" if low is None else f"{low:g} to {high:g}"


def _label(text: str) -> Score:
    label = clean(text[:LABEL_LIMIT])
    if label is None:
        return _skipped("the metric returned an empty label")
    if len(text) > LABEL_LIMIT:
        return Score(label, reason=f"the label was cut to {LABEL_LIMIT} of {len(text)} characters")
    return Score(label)


def clean(text: Any, limit: int = REASON_LIMIT) -> str | None:
    """Text that every encoder takes (no lone surrogates, bounded); ``None`` when there is none."""
    if text is None:
        return None
    found = str.__str__(text) if isinstance(text, str) else _short(text)
    if not found.strip():
        return None  # a blank reason is none
    if len(found) > limit:
        found = f"{found[:limit]}… (cut from {len(found)} characters)"
    try:
        found.encode()
    except UnicodeEncodeError:
        found = found.encode("utf-8", "replace").decode()
    return found


def _plain_metadata(metadata: Any) -> dict[str, Any] | None:
    """Metadata as JSON gives it back, so that nobody downstream meets an object it cannot encode."""
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        return {"value": _short(metadata)}
    try:
        decoded = msgspec.json.decode(msgspec.json.encode(dict(metadata)))
        return decoded if isinstance(decoded, dict) else None
    except Exception:  # noqa: BLE001  user data of any kind; it is kept as text instead
        return {clean(_text(key)) or "": clean(_short(value)) for key, value in metadata.items()}


def _cost(cost: Any) -> float | None:
    if isinstance(cost, int | float) and not isinstance(cost, bool) and math.isfinite(cost):
        return float(cost)
    return None


def _discard(value: Any) -> None:
    """Close a coroutine that nobody will await, so that it does not warn at its end."""
    if iscoroutine(value):
        value.close()


def _failed(reason: str) -> Score:
    return Score(None, reason=clean(reason), status=ScoreStatus.FAILED)


def _skipped(reason: str) -> Score:
    return Score(None, reason=clean(reason), status=ScoreStatus.SKIPPED)


def _type(value: Any) -> str:
    kind = type(value)
    module = getattr(kind, "__module__", "")
    name = kind.__qualname__ if module in ("builtins", "", None) else f"{module}.{kind.__qualname__}"
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


def _text(value: Any) -> str:
    return str.__str__(value) if isinstance(value, str) else _short(value)


def _short(value: Any) -> str:
    """A short repr of anything, itself total."""
    try:
        text = _reprs.repr(value)
    except BaseException:  # noqa: BLE001  a __repr__ of user code
        return f"<{type(value).__name__}>"
    return text if len(text) <= 100 else f"{text[:99]}…"


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:500]
    except BaseException:  # noqa: BLE001  a __str__ of user code
        return type(error).__name__
