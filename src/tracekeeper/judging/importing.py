"""Finding a metric again by name: in a worker, after a restart, from the command line.

A metric is importable when ``module:qualname`` leads back to the same object in this process, and what it was made
with is plain data. Anything else (lambdas, closures, notebooks, whatever is defined in ``__main__``) is local: only
the process that made it can compute it.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from tracekeeper.judging.fingerprint import parameters
from tracekeeper.types import MetricError

NOT_IMPORTABLE = frozenset({"__main__", "__mp_main__", "builtins"})


def import_path(function: Callable[..., Any], same: Callable[[Any], bool] | None = None) -> str | None:
    """``module:qualname`` of a function, or of the class of a callable object; ``None`` when it is local.

    ``same`` tells whether what is found under that name stands for the function too: a metric that decorates it.
    """
    target: Any = function.func if isinstance(function, partial) else function
    if parameters(function) is None:
        return None
    if inspect.ismethod(target) and not isinstance(target.__self__, type):
        return None  # its object cannot be named
    if not inspect.isroutine(target):
        target = type(target)
    module, qualname = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if not module or not qualname or module in NOT_IMPORTABLE or "<" in qualname:
        return None
    loaded = sys.modules.get(module)
    if loaded is None or getattr(loaded, "__spec__", None) is None:
        return None  # made by exec or by hand: another process would not find it
    found: Any = loaded
    for part in qualname.split("."):
        found = inspect.getattr_static(found, part, None) if part.startswith("__") else getattr(found, part, None)
        if found is None:
            return None
    if isinstance(target, type) and not isinstance(function, partial) and not _rebuilds(target, function):
        return None
    return f"{module}:{qualname}" if found == target or (same is not None and same(found)) else None


def _rebuilds(cls: type, instance: Any) -> bool:
    """Whether calling the class with the instance's attributes by name makes the same one again."""
    held = parameters(instance) or {}
    try:
        wanted = inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return not held
    every = {
        name
        for name, parameter in wanted.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    by_position = any(parameter.kind is parameter.POSITIONAL_ONLY for parameter in wanted.values())
    return not by_position and set(held) == every


def load(path: str) -> Any:
    """The object at ``module:qualname``; importing its module runs that module.

    Raises
    ------
    MetricError
        When the module does not import or has no such name; the nearest name is given.
    """
    module_name, _, qualname = path.partition(":")
    if not module_name or not qualname:
        raise MetricError(
            f"{path!r} is not an import path; write it as 'module:name', e.g. 'my_app.metrics:cites_source'"
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise MetricError(f"metric {path!r}: module {module_name!r} does not import: {error}") from error
    except Exception as error:
        raise MetricError(
            f"metric {path!r}: importing {module_name!r} raised {type(error).__name__}: {error}"
        ) from error
    for part in qualname.split("."):
        inner = getattr(found, part, None)
        if inner is None:
            known = [name for name in dir(found) if not name.startswith("_") and callable(getattr(found, name, None))]
            near = difflib.get_close_matches(part, known, n=1)
            hint = f"; did you mean '{module_name}:{near[0]}'?" if near else ""
            raise MetricError(f"metric {path!r}: {module_name!r} has no {part!r}{hint}")
        found = inner
    return found
