"""Importing the modules that a worker was told to: what is wrong is said at once, in one sentence."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterable

from tracekeeper.judging.importing import load
from tracekeeper.types import MetricError


def import_modules(paths: Iterable[str], *, option: str = "--import") -> list[str]:
    """Import each ``module`` (or ``module:name``, which must be there too); the names of the modules.

    One's own modules are looked for in the working directory first, as ``python -m`` does. ``option`` is what messages
    call it.

    Raises
    ------
    MetricError
        There is no such module or name (the nearest one is given), or importing it fails.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    return list(dict.fromkeys(_import(path, option) for path in paths))


def _import(path: str, option: str) -> str:
    name, colon, _ = path.partition(":")
    said = f"{option} {path!r}"
    if not name or not all(part.isidentifier() for part in name.split(".")):
        hint = name.removesuffix(".py").replace("/", ".").replace(os.sep, ".").strip(".")
        wrong = hint if all(part.isidentifier() for part in hint.split(".")) else "my_app.metrics"
        raise MetricError(f"{said}: expected the name of a module, as in {option} {wrong}")
    _find(name, said)
    try:
        importlib.import_module(name)
    except Exception as error:
        raise MetricError(f"{said}: importing it raised {type(error).__name__}: {error}") from error
    if colon:
        load(path)
    return name


def _find(name: str, said: str) -> None:
    """Refuse what is not there, naming the nearest module on the same level."""
    above, _, last = name.rpartition(".")
    if above:
        _find(above, said)
        try:
            package = importlib.import_module(above)
        except Exception as error:
            raise MetricError(f"{said}: importing {above!r} raised {type(error).__name__}: {error}") from error
        places = getattr(package, "__path__", None)
        if places is None:
            raise MetricError(f"{said}: {above!r} is a module, not a package, so it has no {last!r} in it")
    else:
        places = None
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    known = [module.name for module in pkgutil.iter_modules(places)]
    near = difflib.get_close_matches(last, known, n=1)
    hint = f"; did you mean {f'{above}.{near[0]}' if above else near[0]!r}?" if near else ""
    where = f"in {above!r}" if above else "in the working directory or among the installed ones"
    raise MetricError(f"{said}: there is no module {last!r} {where}{hint}")
