"""The judging itself: every metric on every subject, in parallel on the deadline runner, within one deadline.

A *subject* is what is let through or not: the call's input, its output, or one document. It is decided as soon as one
finding refuses it, and its other metrics are then cancelled. A trial is over when every subject is decided or at its
deadline; ``heard`` is called once then, from any thread, maybe the watchdog's: it must be quick.

The deadline is a timer of the runner's fair clock, so it holds whatever a metric does to its thread or its loop, and
also for metrics that could not begin.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tracekeeper.concurrency import Outcome, is_async, is_awaitable
from tracekeeper.concurrency.shapes import awaited
from tracekeeper.judging import CannotBind, Metric, RecordView
from tracekeeper.scoring.guards import isolation
from tracekeeper.scoring.guards.rule import Finding, Rule
from tracekeeper.scoring.jobs import first_line
from tracekeeper.scoring.runners import inline_runner
from tracekeeper.tracing import failures
from tracekeeper.types import Score, ScoreStatus

AT_ONCE = 100
"""Metrics that one guard runs at the same time: a retriever may return thousands of documents."""
_SHORTEST = 0.001

Scores = list[tuple[str, Score]]


class Subject:
    """What is let through or not. Changed under the trial's lock."""

    def __init__(self, view: RecordView, metrics: Sequence[Metric]) -> None:
        self.view = view
        self.open = {metric.name: metric for metric in metrics}
        self.findings: list[Finding] = []
        self.kept: bool | None = None
        """``None``: not decided."""


class _Call:
    __slots__ = ("context", "metric", "subject", "task")

    def __init__(self, subject: Subject, metric: Metric) -> None:
        self.subject = subject
        self.metric = metric
        self.context = contextvars.copy_context()
        self.task: Any = None


class Trial:
    """One guard at work on one call. Made where the context variables are that the metrics shall see."""

    def __init__(self, rule: Rule, views: Sequence[RecordView]) -> None:
        self.rule = rule
        self.subjects = [Subject(view, rule.metrics) for view in views]
        self.heard: Callable[[], object] = _nobody
        self.over = not views
        self._runner = inline_runner()
        self._lock = threading.Lock()
        self._waiting = deque(_Call(subject, metric) for subject in self.subjects for metric in rule.metrics)
        self._flying: set[_Call] = set()
        self._deadline = 0.0
        self._timer: Any = None

    def start(self) -> None:
        """Begin; ``heard`` is called when it is over, maybe before this returns."""
        if self.over:
            self.heard()
            return
        clock = self._runner.clock
        self._deadline = clock.now() + self.rule.timeout
        self._timer = clock.at(self._deadline, self.expire)
        self._feed()

    def expire(self) -> None:
        """The deadline is over: what is not decided is decided by what there is not."""
        late = Score(status=ScoreStatus.TIMED_OUT, reason=f"the guard's deadline of {self.rule.timeout:g} s was over")
        with self._lock:
            if self.over:
                return
            for subject in self.subjects:
                if subject.kept is None:
                    self._take(subject, [pair for metric in subject.open.values() for pair in _all(metric, late)])
            running = self._end()
        _stop(running, "the guard's deadline was over")
        self.heard()

    def cancel(self) -> None:
        """Whoever waited for it was interrupted: nothing of it is wanted any more."""
        with self._lock:
            if self.over:
                return
            running = self._end()
        _stop(running, "the guarded call was cancelled")

    # -- starting and finishing (any thread) -------------------------------------------------------------------

    def _feed(self) -> None:
        begun: list[_Call] = []
        with self._lock:
            while self._waiting and len(self._flying) < AT_ONCE and not self.over:
                call = self._waiting.popleft()
                if call.subject.kept is None:
                    self._flying.add(call)
                    begun.append(call)
        for call in begun:
            self._launch(call)

    def _launch(self, call: _Call) -> None:
        metric = call.metric
        left = max(_SHORTEST, self._deadline - self._runner.clock.now())
        apart = metric.isolation == "process"
        asynchronous = not apart and is_async(metric.function)
        view = call.subject.view
        attempt: Callable[[], Any]
        if apart:
            attempt = partial(isolation.judge, metric, view, left, partial(self._decided, call.subject))
        else:
            attempt = partial(_on_loop, metric, view) if asynchronous else partial(_in_thread, metric, view)
        try:
            call.task = self._runner.start(
                attempt,
                timeout=left if apart else min(metric.timeout, left),
                done=partial(self._done, call),
                name=f"guard {self.rule.name!r}: metric {metric.name!r}",
                context=call.context,
                restartable=asynchronous,
                start_within=left,
                asynchronous=asynchronous,
            )
        except RuntimeError as error:  # no thread to be had, or the interpreter is going down
            self._done(call, Outcome(status="error", reason=str(error)))
            return
        if self._decided(call.subject):  # while it was being started
            _stop([call], "the guard had decided")

    def _decided(self, subject: Subject) -> bool:
        return self.over or subject.kept is not None

    def _done(self, call: _Call, outcome: Outcome[Scores]) -> None:
        given = _scores(call.metric, outcome)
        missing = Score(status=ScoreStatus.FAILED, reason="the metric gave no score of this name")
        names = {name for name, _ in given}
        given += [(name, missing) for name in call.metric.names if name not in names]
        with self._lock:
            self._flying.discard(call)
            subject = call.subject
            if self._decided(subject):
                return
            judged = [(call.metric, name, score.replace(seconds=outcome.seconds)) for name, score in given]
            self._take(subject, judged)
            running = [] if subject.kept is None else [one for one in self._flying if one.subject is subject]
            if over := all(one.kept is not None for one in self.subjects):
                running = self._end()
        _stop(running, "the guard had decided")
        if over:
            self.heard()
        else:
            self._feed()

    def _take(self, subject: Subject, judged: Sequence[tuple[Metric, str, Score]]) -> None:
        """Add findings and decide the subject if they do (under the lock)."""
        refused = False
        for metric, name, score in judged:
            named = score.replace(name=name, metric_version=metric.version, source=metric.source, attempt=1)
            finding = self.rule.finding(metric, named)
            subject.findings.append(finding)
            refused = refused or not self.rule.passes(finding)
        for name in {metric.name for metric, _, _ in judged}:
            subject.open.pop(name, None)
        if refused:
            subject.kept = False
            unwanted = Score(status=ScoreStatus.CANCELLED, reason="not waited for: another metric had decided")
            for metric in subject.open.values():
                for _, name, score in _all(metric, unwanted):
                    subject.findings.append(Finding(metric.name, score.replace(name=name), "failed", "not waited for"))
            subject.open.clear()
        elif not subject.open:
            subject.kept = True

    def _end(self) -> list[_Call]:
        """Everything is decided (under the lock); the calls that still run."""
        self.over = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        return list(self._flying)


def _stop(running: Sequence[_Call], why: str) -> None:
    """End what is not wanted any more, without abandoning a thread.

    A thread cannot be stopped, only abandoned, and few may be: whoever has many calls refused could then keep all
    guards from judging. It runs on to its own deadline instead, and its result is not looked at.
    """
    for call in running:
        task = call.task  # None: whoever starts it at this moment looks afterwards
        if task is not None and (task.asynchronous or task.awaitable is not None or not task.begun):
            task.cancel(why)


def _nobody() -> None:
    return None


def _all(metric: Metric, score: Score) -> list[tuple[Metric, str, Score]]:
    return [(metric, name, score) for name in metric.names]


def _in_thread(metric: Metric, view: RecordView) -> Any:
    try:
        result = metric.bind(view)()
    except CannotBind as cannot:
        return _unbound(metric, cannot)
    return _finish(metric, result) if is_awaitable(result) else metric.scores(result)


async def _on_loop(metric: Metric, view: RecordView) -> Scores:
    try:
        result = metric.bind(view)()
    except CannotBind as cannot:
        return _unbound(metric, cannot)
    return metric.scores(await awaited(result) if is_awaitable(result) else result)


async def _finish(metric: Metric, awaitable: Any) -> Scores:
    return metric.scores(await awaited(awaitable))


def _unbound(metric: Metric, cannot: CannotBind) -> Scores:
    return [(name, Score(status=ScoreStatus.SKIPPED, reason=cannot.reason)) for name in metric.names]


def _scores(metric: Metric, outcome: Outcome[Scores]) -> Scores:
    """Every outcome of the runner as scores."""
    if outcome.status == "ok" and outcome.value is not None:
        return list(outcome.value)
    if outcome.status == "error" and outcome.error is not None:
        info = failures.info(outcome.error)
        score = Score(
            status=ScoreStatus.FAILED,
            reason=f"the metric raised {info.type}" + (f": {first_line(info.message)}" if info.message else ""),
            error=f"{info.type}: {info.message}",
            traceback=info.traceback,
        )
    else:
        status = {"timed_out": ScoreStatus.TIMED_OUT, "cancelled": ScoreStatus.CANCELLED}.get(outcome.status)
        score = Score(status=status or ScoreStatus.FAILED, reason=outcome.reason)
    return [(name, score) for name in metric.names]
