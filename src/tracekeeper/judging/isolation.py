"""What a metric with ``isolation="process"`` must be, said when it is made or, at the latest, when it is used.

Its function runs in a fresh interpreter, so that one has to find it: by import, as pickle does. A module that is still
executing cannot be asked, so at construction only what is certain is refused.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from tracekeeper.judging.importing import NOT_IMPORTABLE
from tracekeeper.types import MetricError, MetricMode

if TYPE_CHECKING:
    from tracekeeper.judging.metric import Metric

_REMEDY = "put it at the top level of a module that can be imported, or use isolation='thread'"


def check_isolation(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse what can never run in another process, and options that contradict each other.

    Raises
    ------
    MetricError
        One sentence with the remedy.
    """
    if options["isolation"] != "process":
        if options["memory_limit"] is not None:
            raise MetricError(
                f"metric {name!r}: memory_limit={options['memory_limit']}: the memory of a thread cannot be limited; "
                "add isolation='process'"
            )
        return
    if options["mode"] == MetricMode.INLINE or options["needs_live"]:
        option = "mode='inline'" if options["mode"] == MetricMode.INLINE else "needs_live=True"
        raise MetricError(
            f"metric {name!r}: isolation='process' with {option}: the call's own objects cannot be given to another "
            "process; use mode='background', which judges what was captured of them"
        )
    why = certainly_local(function)
    if why is not None:
        raise MetricError(f"metric {name!r}: isolation='process': another process cannot import {why}; {_REMEDY}")


def check_pickled(metric: Metric) -> None:
    """Refuse a metric with ``isolation="process"`` that cannot be sent to another process.

    Raises
    ------
    MetricError
        One sentence with pickle's reason and the remedy.
    """
    if metric.isolation != "process":
        return
    where = f"metric {metric.name!r}: isolation='process'"
    why = certainly_local(metric.function)  # a decorated function's module may have become `__main__`'s only now
    if why is not None:
        raise MetricError(f"{where}: another process cannot import {why}; {_REMEDY}")
    try:
        pickle.dumps(metric)
    except Exception as error:
        raise MetricError(f"{where}: it cannot be pickled ({_first_line(error)}); {_REMEDY}") from error


def certainly_local(function: Any) -> str | None:
    """What of a function no other process can find, in words; ``None`` when nothing is certain."""
    while isinstance(function, partial):
        function = function.func
    if inspect.ismethod(function):
        owner = function.__self__
        function = owner if isinstance(owner, type) else type(owner)
    elif not inspect.isroutine(function):
        function = type(function)
    module, qualname = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    if "<lambda>" in qualname:
        return "a lambda"
    if "<locals>" in qualname:
        return f"{qualname.rpartition('.')[2]!r}, which is defined inside a function"
    if module in NOT_IMPORTABLE and module != "builtins":
        return f"{qualname!r} from the program's own file or notebook (__main__)"
    return None


def _first_line(error: BaseException) -> str:
    try:
        text = str(error).strip()
    except Exception:  # noqa: BLE001  a __str__ of user code
        text = ""
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__
