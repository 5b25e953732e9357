"""Ray as an engine: each worker is an actor that hosts a ``Workplace``. See ``elsewhere.engine`` for what that means.

Ray's own retries and restarts are off: what is made again, and how often, is decided at home, where it is written down.
When the program has not connected to a cluster, ``ray.init()`` does what it always does (``RAY_ADDRESS``, a cluster of
this machine, else a new one), without Ray's dashboard and its report of usage over the network.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from tracekeeper.evaluation.executors.elsewhere.engine import Gone
from tracekeeper.evaluation.executors.elsewhere.messages import Message, Order, Setup
from tracekeeper.evaluation.executors.elsewhere.places import START_WITHIN
from tracekeeper.evaluation.executors.elsewhere.remote import RemoteExecutor
from tracekeeper.evaluation.executors.elsewhere.worker import Workplace
from tracekeeper.types import MissingExtraError

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TELLING = ("died", "killed", "exits", "out of memory", "Error: ")
THREADS = 4
"""Of an actor: one waits in ``poll``, the others are there for what is quick."""


class RayEngine:
    """Workers in a Ray cluster.

    Parameters
    ----------
    options:
        Of the actors, as Ray's ``options(…)`` takes them: ``{"num_cpus": 2, "resources": {"gpu_node": 1}}``. Without
        them one CPU each.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    """

    name = "Ray"

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("executor='ray' needs Ray: pip install 'tracekeeper[ray]'") from error
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(include_dashboard=False, logging_level=logging.WARNING)
        self._ray = ray
        self._options = {"num_cpus": 1, **(options or {})}
        self._actors = ray.remote(Workplace)
        self._setup: tuple[Setup | None, Any] = (None, None)

    @property
    def dumps(self) -> Callable[[Any], bytes]:
        """Cloudpickle, as Ray has it."""
        return self._ray.cloudpickle.dumps  # type: ignore[no-any-return]

    def room(self) -> int:
        """One worker for each processor of the cluster."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def start(self, setup: Setup) -> RayWorker:
        """An actor, as soon as the cluster has room for it."""
        if self._setup[0] is not setup:
            self._setup = setup, self._ray.put(setup)
        fixed = {"max_concurrency": THREADS, "max_restarts": 0, "max_task_retries": 0}
        actor = self._actors.options(**{**self._options, **fixed}).remote(self._setup[1])
        return RayWorker(self._ray, actor)

    def wait(self, workers: Sequence[RayWorker], timeout: float) -> list[tuple[RayWorker, list[Message] | Gone]]:
        """See ``Engine``."""
        polls = {worker.poll: worker for worker in workers}
        if not polls:
            return []
        ready, _ = self._ray.wait([*polls], num_returns=1, timeout=timeout)
        if ready and len(polls) > 1:
            ready, _ = self._ray.wait([*polls], num_returns=len(polls), timeout=0)
        return [(polls[poll], polls[poll].answer()) for poll in ready]


class RayWorker:
    """An actor."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self._actor = actor
        self.begin: Callable[[list[Order]], Any] = actor.begin.remote
        self.cancel: Callable[[int], Any] = actor.cancel.remote
        self.poll = actor.poll.remote()

    def answer(self) -> list[Message] | Gone:
        """What its poll gave, which has come; it is polled again."""
        try:
            found: list[Message] = self._ray.get(self.poll)
        except self._ray.exceptions.RayError as error:
            return Gone(_reason(error))
        self.poll = self._actor.poll.remote()
        return found

    def leave(self, seconds: float) -> list[Message]:
        """See ``Hosted``."""
        return self._ray.get(self._actor.leave.remote(seconds), timeout=seconds + 1)  # type: ignore[no-any-return]

    def kill(self) -> None:
        """With SIGKILL; Ray does not start it again."""
        self._ray.kill(self._actor, no_restart=True)


def _reason(error: BaseException) -> str:
    """Ray's explanation in a line: it fills a page."""
    text = _COLOURS.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line for word in _TELLING)]
    return (telling or lines[-1:] or [type(error).__name__])[-1][:300]


def ray_executor(
    *,
    concurrency: int,
    timeout: float | None,
    retries: int,
    workers: int | None = None,
    options: dict[str, Any] | None = None,
    start_within: float | None = START_WITHIN,
) -> RemoteExecutor:
    """What ``executor="ray"`` is; call it yourself to say how many workers there are and what each of them needs.

    Parameters
    ----------
    concurrency, timeout, retries:
        As of ``tk.evaluate``: calls at a time, seconds for each, how often one that failed is tried again.
    workers:
        Default: one for each processor of the cluster, at most ``concurrency``.
    options:
        See ``RayEngine``.
    start_within:
        Seconds without any worker (default 300) after which the run ends with what it has: a cluster may be full, or
        have no machine with what ``options`` ask for. ``None``: it waits as long as it takes.

    Raises
    ------
    ConfigurationError
        A number that cannot be meant.
    MissingExtraError
        Ray is not installed.
    """
    return RemoteExecutor(
        RayEngine(options),
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
        workers=workers,
        start_within=start_within,
    )
