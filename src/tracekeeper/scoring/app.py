"""``tk.App`` and ``@tk.app``: what is evaluated, and the metrics that judge each of its calls.

An app is the tracer's ``AppLink``: at the end of each call it decides what its metrics will do (that decision is
written in the record's own end frame), then hands the record to the engine. Both may happen in a finaliser, so neither
takes a lock.
"""

from __future__ import annotations

import difflib
import inspect
import typing
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, overload

from msgspec import structs

from tracekeeper.journal.frames import Definition, ScoreBirth
from tracekeeper.judging import Metric, as_metrics, return_annotation
from tracekeeper.scoring.engine import engine_for
from tracekeeper.scoring.record import Record
from tracekeeper.scoring.waiting import RecordsWait
from tracekeeper.scoring.watching import OnScore, of_app
from tracekeeper.scoring.worker.registered import add_source
from tracekeeper.tracing import ids, runtime, trace
from tracekeeper.tracing.state import RecordState
from tracekeeper.types import ConfigurationError, MetricMode, ScoreStatus, SpanKind

P = ParamSpec("P")
R = TypeVar("R")

RECENT = 1_000
"""Settled records that an app remembers for ``app.wait_for_scores``; the store has them all."""


class App(RecordsWait, Generic[P, R]):
    """A callable that is evaluated: each call is a record, judged by the metrics.

    Parameters
    ----------
    target:
        What to call: any callable, sync or async, a generator function too.
    name:
        Default: the callable's own name.
    version:
        What leaderboards compare, as text. Default: ``1``.
    metrics:
        ``tk.metric`` objects, or plain functions that are made one.
    kind:
        Kind of the record's span (default ``chain``).
    capture_input, capture_output, mask:
        As in ``tk.trace``.
    on_error:
        Called with (record, score) for each score of its calls that ends ``failed`` or ``timed_out`` in this process;
        see ``tk.on_error``.

    Raises
    ------
    MetricError
        A metric needs an argument that nothing can provide, or two metrics share a name.

    Example
    -------
    >>> def short(output):
    ...     return len(output) < 40
    >>> ask = App(lambda question: "mild", name="demo", version="1", metrics=[short])
    >>> ask("weather?")
    'mild'
    >>> [(record, scores)] = ask.wait_for_scores(timeout=10)
    >>> scores["short"].value
    True
    """

    has_inline: bool

    def __init__(
        self,
        target: Callable[P, R],
        *,
        name: str | None = None,
        version: str | None = None,
        metrics: Sequence[Metric | Callable[..., Any]] = (),
        kind: str = SpanKind.CHAIN,
        capture_input: bool = True,
        capture_output: bool = True,
        mask: Callable[[Any], Any] | None = None,
        on_error: OnScore | None = None,
    ) -> None:
        if not callable(target):
            raise ConfigurationError(f"an app needs something to call, not {type(target).__name__}: {target!r}")
        self.target = target
        if not isinstance(name, str | None):
            raise ConfigurationError(f"name={name!r}: expected the app's name as text")
        self.name = name or getattr(target, "__qualname__", None) or type(target).__name__
        self.version = "1" if version is None else str(version)
        self.metrics = as_metrics(metrics, where=f"app {self.name!r}: metrics")
        self._check(self.metrics)
        active = [one for one in self.metrics if one.mode != MetricMode.OFF]
        self._background = tuple(one for one in active if one.mode == MetricMode.BACKGROUND)
        self._inline = tuple(one for one in active if one.mode == MetricMode.INLINE)
        self._active = tuple(active)
        self.has_inline = bool(self._inline)
        self.needs_live = self.has_inline or any(one.needs_live for one in active)
        self.needs_spans = any(one.needs_spans for one in active)
        self._sampled = any(one.sample < 1 for one in active)
        self._births = tuple(birth for one in active for birth in _births(one, False))
        self._definitions: tuple[Definition, ...] | None = None
        self.errors = of_app(on_error)
        self.forget()
        _apps.add(self)
        self._call: Callable[P, R] = trace(
            target,
            name=self.name,
            kind=kind,
            capture_input=capture_input,
            capture_output=capture_output,
            mask=mask,
            app=self,
        )

    @property
    def call(self) -> Callable[P, R]:
        """The traced callable itself: same signature and nature (sync, async, generator) as the target."""
        return self._call

    def replace_call(self, call: Callable[P, R]) -> None:
        """Have the app call this instead: its traced callable with a guard inside."""
        self._call = call

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._call(*args, **kwargs)

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call from a task: an async target is awaited, a sync one runs in a thread with the context carried along."""
        import asyncio

        if inspect.iscoroutinefunction(self._call):
            return await typing.cast(Awaitable[Any], self._call(*args, **kwargs))
        result = await asyncio.to_thread(self._call, *args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    @property
    def records(self) -> list[Record]:
        """This process's records of the app, oldest first: the last 1,000 settled ones and all that are not."""
        # A record that settles is put into the one before it leaves the other: it may be in both, never in neither.
        return list(dict.fromkeys([*self._recent.copy(), *self._unsettled.copy().values()]))

    # What the tracer calls (AppLink). Lock-free, and never raising: see the module docstring.

    def definitions(self) -> tuple[Definition, ...]:
        """The app and its metrics, as they are journaled before the first record."""
        if self._definitions is None:
            self._definitions = (_definition(self), *(one.definition() for one in self._active))
        return self._definitions

    def decide(self, state: RecordState) -> tuple[ScoreBirth, ...]:
        """What each metric will do with this record: the scores that are born with it."""
        births = self._births
        if self._sampled:
            births = tuple(
                birth for one in self._active for birth in _births(one, one.sample < 1 and ids.uniform() >= one.sample)
            )
        record = Record.of(state)
        record.born(births, self)
        return births

    def decline(self, state: RecordState, reason: str = "it was logged inside an evaluation") -> tuple[ScoreBirth, ...]:
        """The record is not judged, and its scores say why."""
        births = tuple(structs.replace(birth, status="skipped", reason=reason) for birth in self._births)
        Record.of(state).born(births, self)
        return births

    def ended(self, state: RecordState) -> None:
        """The record is in the journal: let the engine have it."""
        record = Record.of(state)
        record.closed()
        # A call that ended in a finaliser, at exit or by hand has no caller to hold back: inline metrics run behind it.
        ours = self._background if state.inline or not self._inline else (*self._background, *self._inline)
        todo = [one for one in ours if record.has_pending(one)]
        if todo and state.keeper is not None:
            engine_for(state.keeper).submit(state, todo)

    def settle_inline(self, state: RecordState) -> None:
        """Run the inline metrics before the call returns, within their deadlines."""
        todo = [one for one in self._inline if Record.of(state).has_pending(one)]
        if todo and state.keeper is not None:
            engine_for(state.keeper).settle_inline(state, todo)

    async def asettle_inline(self, state: RecordState) -> None:
        """The same without blocking the running loop."""
        todo = [one for one in self._inline if Record.of(state).has_pending(one)]
        if todo and state.keeper is not None:
            await engine_for(state.keeper).asettle_inline(state, todo)

    def opened(self, record: Record) -> None:
        """A record of this app has scores to come. Lock-free: one dict item."""
        self._unsettled[record.key] = record

    def settled(self, record: Record) -> None:
        """Every score of the record that this process computes is final."""
        self._recent.append(record)
        self._unsettled.pop(record.key, None)

    def forget(self) -> None:
        """Have no record: at first, and in a forked child, whose parent settles what it had."""
        self._unsettled: dict[bytes, Record] = {}
        self._recent: deque[Record] = deque(maxlen=RECENT)

    def allowance(self, names: Sequence[str] | None = None) -> float:
        """Seconds that the metrics allow themselves in all: (retries + 1) x timeout and the back-off between."""
        chosen = (
            one
            for one in self._active
            if (one.mode != MetricMode.DEFERRED if names is None else any(name in names for name in one.names))
        )
        return sum(one.allowance for one in chosen)

    def _check(self, metrics: Sequence[Metric]) -> None:
        parameters, output = _signature(self.target)
        for one in metrics:
            one.check(parameters, output)

    def __repr__(self) -> str:
        return f"<App {self.name!r} version {self.version!r}, {len(self.metrics)} metrics>"


@overload
def app(target: Callable[P, R], /) -> AppFunction[P, R]: ...
@overload
def app(
    target: None = None,
    /,
    *,
    name: str | None = None,
    version: str | None = None,
    metrics: Sequence[Metric | Callable[..., Any]] = (),
    kind: str = SpanKind.CHAIN,
    capture_input: bool = True,
    capture_output: bool = True,
    mask: Callable[[Any], Any] | None = None,
    on_error: OnScore | None = None,
) -> Callable[[Callable[P, R]], AppFunction[P, R]]: ...


def app(target: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function an app: it stays the function it was, with ``.app`` to reach its :class:`App`.

    Takes what :class:`App` takes.

    Example
    -------
    >>> @app(name="rag", version="1.2")
    ... def ask(question):
    ...     return "mild"
    >>> ask("weather?"), ask.app.version
    ('mild', '1.2')
    """
    if target is None:
        known = tuple(inspect.signature(App.__init__).parameters)[2:]
        for option in options:
            if option not in known:
                near = difflib.get_close_matches(option, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
                raise ConfigurationError(f"@tk.app has no option {option!r}{hint}")
        return lambda function: app_function(App(function, **options))
    if not callable(target):
        raise ConfigurationError(
            f"@tk.app decorates a function, not {target!r}: did you mean @tk.app(name={target!r})?"
        )
    return app_function(App(target))


def app_function(made: App[P, R]) -> AppFunction[P, R]:
    """The app's traced callable with ``.app`` on it."""
    made.call.app = made  # type: ignore[attr-defined]
    return made.call  # type: ignore[return-value]


class AppFunction(typing.Protocol[P, R]):
    """A decorated function: callable as before, and ``.app``."""

    app: App[P, R]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...


def _signature(target: Callable[..., Any]) -> tuple[frozenset[str] | None, Any]:
    """Parameter names (``None``: anything may come) and return annotation."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return None, None
    kinds = inspect.Parameter
    if any(p.kind in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL) for p in signature.parameters.values()):
        return None, None
    names = frozenset(name for name in signature.parameters if name not in ("self", "cls"))
    return names, return_annotation(target)


def _births(one: Metric, left_out: bool) -> tuple[ScoreBirth, ...]:
    return tuple(
        ScoreBirth(
            name=name,
            metric_version=one.version,
            mode=str(one.mode),
            status="skipped" if left_out else "pending",
            reason="not sampled" if left_out else None,
            source=str(one.source),
            local=one.import_path is None,
            priority=one.priority,
        )
        for name in one.names
    )


def _definition(made: App[..., Any]) -> Definition:
    import orjson

    data = {"metrics": [{"name": name, "version": one.version} for one in made.metrics for name in one.names]}
    return Definition("app", made.name, made.version, orjson.dumps(data))


_apps: weakref.WeakSet[App[..., Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for made in list(_apps):
        made.forget()


runtime.after_fork_in_child(_after_fork_in_child)
add_source(lambda: [metric for made in list(_apps) for metric in made._background])

__all__ = ["App", "ScoreStatus", "app"]
