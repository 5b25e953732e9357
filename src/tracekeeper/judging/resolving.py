"""A metric by its import path, as the command line and workers name it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tracekeeper.judging.importing import load
from tracekeeper.judging.making import metric
from tracekeeper.judging.metric import Metric
from tracekeeper.judging.options import DEFAULTS
from tracekeeper.judging.picking import from_spec
from tracekeeper.types import MetricError


def resolve(path: str, parameters: Mapping[str, Any] | None = None) -> Metric:
    """The metric at ``module:name``: a metric, a function, or a class that is made with ``parameters``.

    Parameters
    ----------
    path:
        ``module:qualname``. Importing the module runs it.
    parameters:
        Keyword arguments: of the class, or fixed ones of the function.

    Raises
    ------
    MetricError
        Nothing of that name (the nearest is named), or something that cannot be a metric.
    """
    found = load(path)
    given = dict(parameters or {})
    if isinstance(found, type):
        try:
            found = found(**given)
        except TypeError as error:
            raise MetricError(f"metric {path!r}: {error}") from error
        given = {}
    if isinstance(found, Metric):
        return found.with_function(partial(found.function, **given)) if given else found
    if not callable(found):
        raise MetricError(f"metric {path!r}: a {type(found).__name__}, which is not callable")
    return metric(partial(found, **given)) if given else metric(found)


def restore(data: Mapping[str, Any]) -> Metric:
    """The metric that ``Metric.description`` described (a definition's ``data``), found by its import path.

    Its ``version`` is that of the code as it is now: compare it with ``data["version"]`` to see whether that changed.

    Raises
    ------
    MetricError
        When it is local, or does not import any more.
    """
    path = data.get("import_path")
    if not path:
        raise MetricError(f"metric {data.get('name')!r} is local: only the process that made it can compute it")
    stated = {option: data[option] for option in DEFAULTS if option in data and option != "version"}
    if data.get("explicit_version") is not None:
        stated["version"] = data["explicit_version"]
    made = resolve(path, data.get("parameters")).replace(**stated)
    selectors = {name: from_spec(spec) for name, spec in (data.get("selectors") or {}).items()}
    return made.on(**selectors) if selectors else made
