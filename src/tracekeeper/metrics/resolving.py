"""A metric by name, as the command line takes it: ``exact_match``, ``ExactMatch`` or ``my_app.metrics:cites``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from tracekeeper import metrics
from tracekeeper.judging import Metric
from tracekeeper.judging import resolve as resolve_path
from tracekeeper.types import MetricError

_FUNCTIONS = frozenset({"resolve", "built_in_names"})


def built_in_names() -> dict[str, str]:
    """Bare name to class name of every metric that comes with Tracekeeper.

    Example
    -------
    >>> built_in_names()["overlap_groundedness"]
    'OverlapGroundedness'
    """
    return {_bare(name): name for name in metrics.__all__ if name not in _FUNCTIONS}


def resolve(name: str, parameters: Mapping[str, Any] | None = None) -> Metric:
    """The metric of that name.

    Parameters
    ----------
    name:
        A built-in metric (``exact_match`` or ``ExactMatch``), or an import path ``module:name`` of a metric, a
        function, or a class that is made with ``parameters``.
    parameters:
        Keyword arguments of the built-in or class.

    Raises
    ------
    MetricError
        Nothing of that name (the nearest is named), or parameters that it does not take.
    MissingExtraError
        It needs a package that is not installed.

    Example
    -------
    >>> resolve("overlap_groundedness", {"threshold": 0.5}).names
    ('overlap_groundedness',)
    """
    if ":" in name:
        return resolve_path(name, parameters)
    known = built_in_names()
    wanted = name if name in known.values() else known.get(name.lower().replace("-", "_"))
    if wanted is None:
        wanted = {each.lower(): each for each in known.values()}.get(name.lower().replace("_", ""))
    if wanted is not None:
        return resolve_path(f"{metrics.__name__}:{wanted}", parameters)
    if name in metrics._RESERVED or _class_like(name) in metrics._RESERVED:
        other = metrics._RESERVED.get(name) or metrics._RESERVED[_class_like(name)]
        raise MetricError(f"metric {name!r} asks a language model and is not in this version; use {_bare(other)!r}")
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise MetricError(f"no metric is named {name!r}{hint}; there are: {', '.join(known)}, or module:name of your own")


def _bare(name: str) -> str:
    if name == "TokenF1":
        return "token_f1"
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _class_like(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
