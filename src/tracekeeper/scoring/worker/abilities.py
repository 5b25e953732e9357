"""What a worker can compute of what others left, and why not the rest.

A worker reads the definitions of metrics as they come into the store and makes each of them again: the module must be
one that it was told to import (or come with Tracekeeper), since otherwise whoever can write to the database could have
any function called; what it requires must be here; and the code must be the same, which its version tells.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from tracekeeper.concurrency.runner import Runner
from tracekeeper.judging import Metric, restore
from tracekeeper.judging.importing import load
from tracekeeper.scoring.worker.registered import Key
from tracekeeper.types import MetricError

if TYPE_CHECKING:
    from tracekeeper.concurrency import Outcome
    from tracekeeper.store.definitions import DefinitionRow
    from tracekeeper.store.store import Store

log = logging.getLogger("tracekeeper")

LOAD_WITHIN = 60.0
"""Seconds that importing and making one metric may take."""
LOOK_AGAIN_EVERY = 30.0
"""Seconds between two looks at definitions that are known already: one may have been written anew."""
NAMED = 200
"""Metrics that a worker names as what it computes."""
OWN = "tracekeeper.metrics"


class WorkerAbilities:
    """What a worker can compute.

    Parameters
    ----------
    modules:
        Modules (and packages) whose metrics may be run.
    have:
        What else is there of that which metrics require, beyond installed packages: names of models, for example.
    """

    def __init__(self, modules: Sequence[str], have: Collection[str] = ()) -> None:
        self.modules = tuple(modules)
        self.have = frozenset(have)
        self.can: dict[Key, Metric] = {}
        self.cannot: dict[Key, str] = {}
        """Why not, in one sentence."""
        self.changed: Callable[[], None] = lambda: None
        """Called when something was made, from another thread."""
        self._seen: dict[Key, str] = {}
        self._last = 0
        self._look_at = 0.0
        self._open = 0
        self._runner = Runner(name="metrics", concurrency=1)

    @property
    def loading(self) -> bool:
        """Whether a metric is being made."""
        return self._open > 0

    def metrics(self, store: Store) -> Mapping[Key, Metric]:
        """What can be computed here, by score name and version; begins to make what is new."""
        now = time.monotonic()
        again = now >= self._look_at
        if again:
            self._look_at = now + LOOK_AGAIN_EVERY
        for row in store.metric_definitions(0 if again else self._last):
            self._last = max(self._last, row.id)
            if self._seen.get((row.name, row.version)) != row.data:
                self._seen[row.name, row.version] = row.data
                self._make(row)
        return MappingProxyType(self.can)

    def account(self, waiting: Sequence[Key]) -> dict[str, Any]:
        """What a worker says of itself: what it was told to import, what it computes, what waits and it cannot."""
        # What waits comes first: there may be more than are named.
        can = dict.fromkeys([*(key for key in waiting if key in self.can), *list(self.can)])
        return {
            "imports": list(self.modules),
            "computes": [list(key) for key in list(can)[:NAMED]],
            "cannot": [[*key, self.cannot[key]] for key in waiting if key in self.cannot],
        }

    def _make(self, row: DefinitionRow) -> None:
        data = json.loads(row.data)
        names = [str(name) for name in data.get("scores") or [row.name]]
        self._open += 1
        # Importing a module and making a metric run somebody's code: under a deadline, and off the claiming thread.
        self._runner.start(
            lambda: self._made(data),
            timeout=LOAD_WITHIN,
            done=partial(self._done, names, row.version),
            name=f"making metric {row.name!r}",
            asynchronous=False,
        )

    def _done(self, names: list[str], version: str, outcome: Outcome[Metric]) -> None:
        for name in names:
            if outcome.ok and outcome.value is not None:
                self.cannot.pop((name, version), None)
                self.can[name, version] = outcome.value
            else:
                error = outcome.error
                said = str(error) if isinstance(error, MetricError) else f"{type(error).__name__}: {error}"
                self.can.pop((name, version), None)
                self.cannot[name, version] = said if error is not None else outcome.reason or outcome.status
        self._open -= 1
        self.changed()

    def _made(self, data: Mapping[str, Any]) -> Metric:
        path, wanted = data.get("import_path"), data.get("version")
        if not path:
            raise MetricError("only the process that made it can compute it")
        self._check_module(path)
        if data.get("needs_live"):
            raise MetricError(f"{path} needs the objects of the call itself")
        missing = [name for name in data.get("requires") or () if not self._has(name)]
        if missing:
            raise MetricError(
                f"{path} needs {', '.join(missing)}, which is not here; install it, or say that it is with --have"
            )
        _check_home(path)
        made = restore(data)
        if made.version != wanted:
            raise MetricError(f"{path} has changed (version {made.version} here, {wanted} wanted)")
        return made

    def _check_module(self, path: str) -> None:
        module = path.partition(":")[0]
        if module == OWN or any(module == known or module.startswith(f"{known}.") for known in self.modules):
            return
        raise MetricError(f"{path} is in a module that was not named; start a worker with --import {module}")

    def _has(self, name: str) -> bool:
        if name in self.have:
            return True
        try:
            distribution(name)
        except (PackageNotFoundError, ValueError):
            pass  # it may be the name of a module all the same
        else:
            return True
        try:
            return name.replace(".", "_").isidentifier() and importlib.util.find_spec(name) is not None
        except (ImportError, ValueError):  # the package above it is missing, or was made by hand
            return False


def _check_home(path: str) -> None:
    """Refuse a path that leads out of its module, to what that has only imported.

    Raises
    ------
    MetricError
        It does, or there is nothing of that name.
    """
    module, _, qualname = path.partition(":")
    found: Any = load(path)
    step: Any = load(f"{module}:{qualname.split('.')[0]}")
    if isinstance(step, ModuleType) or isinstance(found, ModuleType):
        raise MetricError(f"{path} leads into another module, which is not where a metric is defined")
    if module == OWN or (isinstance(found, type) and issubclass(found, Metric)):
        return
    target: Any = found.function if isinstance(found, Metric) else found
    while isinstance(target, partial):
        target = target.func
    home = getattr(target, "__module__", None) or type(target).__module__
    if home != module:
        raise MetricError(f"{path} is defined in {home}, which is not where a metric of this name is")
