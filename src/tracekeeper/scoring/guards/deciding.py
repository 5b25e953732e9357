"""One guard on one callable: what is judged, the decision, and the span that tells of it.

The decision is written once (``_begin``, ``_decide``); a sync and an async door wait for the trial in between. Nothing
here looks at whether tracing is on, or at sampling: without tracing the span is an inert one and the guard decides
all the same.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tracekeeper.concurrency import is_awaitable
from tracekeeper.concurrency.loops import discard
from tracekeeper.concurrency.waits import get
from tracekeeper.configuration import settings
from tracekeeper.judging import RecordView
from tracekeeper.scoring.guards.fitting import wants
from tracekeeper.scoring.guards.rule import NOT_GIVEN, Finding, Rule
from tracekeeper.scoring.guards.trial import Subject, Trial
from tracekeeper.tracing import Span, arguments, capture, current_span, documents, opening, start_span
from tracekeeper.types import Blocked, Score, ScoreStatus

log = logging.getLogger("tracekeeper")

SLACK = 10.0
"""Seconds beyond its deadline after which a guard decides whatever the runner does."""


class Guard:
    """A rule on a callable."""

    def __init__(self, rule: Rule, function: Callable[..., Any]) -> None:
        self.rule = rule
        self.function = function
        self._bind = arguments.binder(function)
        self._wants_context = rule.kind == "output" and any(wants(metric, "context") for metric in rule.metrics)

    # -- the doors ---------------------------------------------------------------------------------------------

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A guarded call of a sync callable; what it returns may still be awaited."""
        inputs = self._bind(args, kwargs)
        if self.rule.kind == "input":
            stop = self.judge_input(inputs)
            return self.function(*args, **kwargs) if stop is None else self.instead(stop)
        with self._gathering() as gathered:
            result = self.function(*args, **kwargs)
        if is_awaitable(result):
            return self._follow(inputs, result, gathered)
        made, trial = self._begin(inputs, result, gathered)
        _wait(trial, made)
        return self._result(trial, made, result)

    async def acall(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The same of an async callable, without blocking the running loop."""
        inputs = self._bind(args, kwargs)
        if self.rule.kind == "input":
            stop = await self.ajudge_input(inputs)
            return await self.function(*args, **kwargs) if stop is None else await self.ainstead(stop)
        with self._gathering() as gathered:
            result = await self.function(*args, **kwargs)
        return await self._ajudge(inputs, result, gathered)

    def judge_input(self, inputs: Mapping[str, Any]) -> Blocked | None:
        """Judge the arguments; why the call is blocked, if it is."""
        made, trial = self._begin(inputs, None, ())
        _wait(trial, made)
        return self._decide(trial, made)

    async def ajudge_input(self, inputs: Mapping[str, Any]) -> Blocked | None:
        """The same without blocking the running loop."""
        made, trial = self._begin(inputs, None, ())
        await _await(trial, made)
        return self._decide(trial, made)

    async def _ajudge(self, inputs: Mapping[str, Any], result: Any, gathered: Sequence[Any]) -> Any:
        made, trial = self._begin(inputs, result, gathered)
        await _await(trial, made)
        given = self._result(trial, made, result)
        return await given if is_awaitable(given) and given is not result else given

    def inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name."""
        return self._bind(args, kwargs)

    def instead(self, stop: Blocked) -> Any:
        """What a blocked call gives: ``on_block``, or the exception."""
        wanted = self.rule.on_block
        if wanted is NOT_GIVEN:
            raise stop
        return wanted(stop) if callable(wanted) else wanted

    async def ainstead(self, stop: Blocked) -> Any:
        """The same, with an ``on_block`` that may be async."""
        given = self.instead(stop)
        return await given if is_awaitable(given) else given

    def _follow(self, inputs: Mapping[str, Any], awaitable: Any, gathered: Sequence[Any]) -> Any:
        """What a sync callable returned is awaited by its caller: judged then, and of the same sort as it was."""
        import asyncio

        if isinstance(awaitable, asyncio.Future):
            return asyncio.ensure_future(self._after(inputs, awaitable, gathered), loop=awaitable.get_loop())
        if inspect.isawaitable(awaitable):
            return self._after(inputs, awaitable, gathered)
        from tracekeeper.scoring.guards.futures import judged_future

        return judged_future(awaitable, lambda result: self._ajudge(inputs, result, gathered))

    async def _after(self, inputs: Mapping[str, Any], awaitable: Any, gathered: Sequence[Any]) -> Any:
        with self._gathering() as more:
            result = await awaitable
        return await self._ajudge(inputs, result, [*gathered, *more])

    # -- what is judged ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _gathering(self) -> Iterator[list[Any]]:
        """What is retrieved below the call, for metrics that judge its output by it."""
        gathered: list[Any] = []
        if not self._wants_context:
            yield gathered
            return
        above = documents.collecting.get()
        token = documents.collecting.set(gathered)
        try:
            yield gathered
        finally:
            with contextlib.suppress(ValueError):  # a coroutine that is closed by the collector, in another context
                documents.collecting.reset(token)
            if above is not None:
                above.extend(gathered)

    def _views(self, inputs: Mapping[str, Any], result: Any, gathered: Sequence[Any]) -> list[RecordView]:
        # What is captured as an argument may be changed by a metric; the call gets its own.
        common: dict[str, Any] = {"input": dict(inputs), "name": self.rule.name}
        match self.rule.kind:
            case "input":
                # An argument for the output that has a default keeps it: this says that there is none.
                return [RecordView(**common, status="running", error="nothing: the guard runs before it")]
            case "output":
                return [RecordView(**common, output=result, context=_retrieved(gathered))]
            case _:
                return [_document_view(document, common) for document in documents_of(result) or ()]

    def _begin(self, inputs: Mapping[str, Any], result: Any, gathered: Sequence[Any]) -> tuple[Any, Trial]:
        """The span and the trial, which sees it as the current one."""
        rule = self.rule
        judged: Any = inputs if rule.kind == "input" else result
        views = [] if self._cannot_judge(result) else self._views(inputs, result, gathered)
        made = _span(rule, judged)
        # What a metric retrieves for itself is nothing that the guarded call was given.
        apart = documents.collecting.set(None)
        try:
            if isinstance(made, Span):
                opening.enter(made)
            return made, Trial(rule, views)
        except BaseException as error:
            _end(made, error)
            raise
        finally:
            if isinstance(made, Span):
                opening.leave(made)
            documents.collecting.reset(apart)

    def _cannot_judge(self, result: Any) -> str | None:
        if self.rule.kind == "context" and documents_of(result) is None:
            return f"it returned {type(result).__name__}, which is no list or tuple of documents"
        if self.rule.kind == "output" and _is_stream(result):
            return "it returned a stream, whose text leaves before it can be judged"
        return None

    # -- the decision ------------------------------------------------------------------------------------------

    def _result(self, trial: Trial, made: Any, result: Any) -> Any:
        """What the call gives after its result was judged."""
        cannot = self._cannot_judge(result)
        if cannot is not None:
            stop = self._undecidable(made, cannot)
            if stop is None:
                return result
            if _is_stream(result):
                discard(result)
            return self.instead(stop)
        if self.rule.kind == "context":
            return self._kept(trial, made, result)
        stop = self._decide(trial, made)
        return result if stop is None else self.instead(stop)

    def _decide(self, trial: Trial, made: Any) -> Blocked | None:
        """The decision on an input or output; its span ends."""
        rule = self.rule
        subject = trial.subjects[0]
        _say(made, "allowed" if subject.kept else "blocked", {"metrics": _listed(subject)})
        if subject.kept:
            return None
        return self._blocked(next(finding for finding in subject.findings if not rule.passes(finding)))

    def _kept(self, trial: Trial, made: Any, result: Any) -> Any:
        """The documents that pass, in their order, in the same sort of sequence; the span ends."""
        found = trial.subjects  # not the result, to which a metric may have done something
        keep = [subject.view.item["document"] for subject in found if subject.kept]
        listed = [{"kept": bool(subject.kept), "metrics": _listed(subject)} for subject in found]
        _say(made, f"kept {len(keep)} of {len(found)}", {"documents": listed})
        gathered = documents.collecting.get()
        if gathered is not None and current_span().kind != "retriever":  # whose span tells of them itself
            gathered.extend(documents.found_in(keep) or keep)
        return result if result is None or len(keep) == len(found) else _same_sort(result, keep)

    def _blocked(self, finding: Finding) -> Blocked:
        rule = self.rule
        how = ", and on_failure is 'block'" if finding.verdict == "failed" else ""
        return Blocked(
            f"the {rule.kind} guard {rule.name!r} blocked the call: {finding.why}{how}",
            guard=rule.name,
            kind=rule.kind,
            metric=finding.score.name,
            score=finding.score,
        )

    def _undecidable(self, made: Any, why: str) -> Blocked | None:
        rule = self.rule
        blocks = rule.on_failure == "block"
        _say(made, "blocked" if blocks else "allowed", {"metrics": [], "reason": why})
        if not blocks:
            return None
        name = rule.metrics[0].names[0]
        score = Score(status=ScoreStatus.SKIPPED, reason=why, name=name)
        return self._blocked(Finding(rule.metrics[0].name, score, "failed", why))


def documents_of(result: Any) -> Sequence[Any] | None:
    """What a retriever returned, one by one; ``None`` when it is no sequence of documents."""
    if result is None:
        return ()
    return result if isinstance(result, list | tuple) else None


def _same_sort(result: Any, keep: list[Any]) -> Any:
    kind = type(result)
    if kind in (list, tuple):
        return kind(keep)
    try:
        return kind(keep)
    except Exception as error:  # noqa: BLE001  a class of the program's own, with a constructor of its own
        log.debug("tracekeeper: a %s cannot be made of the documents kept (%r): a plain one is", kind.__name__, error)
        return tuple(keep) if isinstance(result, tuple) else list(keep)


def _document_view(document: Any, common: Mapping[str, Any]) -> RecordView:
    try:
        plain = documents.found_in([document])
    except Exception as error:  # noqa: BLE001  attributes of a class of the program's own
        log.debug("tracekeeper: a %s cannot be read as a document: %r", type(document).__name__, error)
        plain = None
    one = plain[0] if plain else document
    text = one.get("content", document) if plain and isinstance(one, dict) else document
    return RecordView(**common, output=text, context=[one], item={"document": document})


def _retrieved(gathered: Sequence[Any]) -> list[Any] | None:
    """What was retrieved for the call: live where it was gathered, else as the enclosing record has captured it."""
    if gathered:
        return list(gathered)
    around = current_span()
    if not isinstance(around, Span) or not around.record_state.documents:
        return None
    found: list[Any] = []
    for part in around.record_state.documents:
        value = capture.decode(part)
        found.extend(value if isinstance(value, list) else [value])
    return found


def _is_stream(result: Any) -> bool:
    """Whether reading it uses it up: generators, iterators, the streams of model clients."""
    return hasattr(type(result), "__next__") or hasattr(type(result), "__anext__")


# -- waiting ---------------------------------------------------------------------------------------------------


def _wait(trial: Trial, made: Any) -> None:
    over: queue.SimpleQueue[None] = queue.SimpleQueue()
    trial.heard = lambda: over.put(None)
    until = time.monotonic() + 2 * trial.rule.timeout + SLACK
    try:
        trial.start()
        with contextlib.suppress(queue.Empty):
            get(over, max(0.0, until - time.monotonic()))
            return
        log.error("tracekeeper: guard %r was not decided in time; it decides with what there is", trial.rule.name)
        trial.expire()
    except BaseException as error:  # Ctrl-C
        trial.cancel()
        _end(made, error)
        raise


async def _await(trial: Trial, made: Any) -> None:
    import asyncio

    over = asyncio.Event()

    def heard() -> None:
        try:
            loop.call_soon_threadsafe(over.set)
        except RuntimeError:  # the caller's loop was closed meanwhile: nobody waits any more
            log.debug("tracekeeper: a guard decided after its caller's loop was closed")

    trial.heard = heard
    try:
        loop = asyncio.get_running_loop()
        trial.start()
        async with asyncio.timeout(2 * trial.rule.timeout + SLACK):
            await over.wait()
    except TimeoutError:
        log.error("tracekeeper: guard %r was not decided in time; it decides with what there is", trial.rule.name)
        trial.expire()
    except BaseException as error:  # the caller is cancelled: at once, and its metrics with it
        trial.cancel()
        _end(made, error)
        raise


# -- the span --------------------------------------------------------------------------------------------------


def _span(rule: Rule, judged: Any) -> Any:
    # Its input is of the same shape as what the call around it captures, so that a mask made for that fits here too.
    said: dict[str, Any] = {"input": judged} if _may_show(rule) else {}
    around = current_span()
    made = start_span(
        f"{rule.kind} guard {rule.name}",
        "guardrail",
        mask=around.mask if isinstance(around, Span) else None,
        **said,
        **{
            "guard.kind": rule.kind,
            "guard.name": rule.name,
            "guard.metrics": [metric.name for metric in rule.metrics],
            "guard.on_failure": rule.on_failure,
        },
    )
    if isinstance(made, Span):
        made.mask = made.settings.mask  # the decision is of another shape
    return made


def _may_show(rule: Rule) -> bool:
    """What the call around does not capture is not captured here either."""
    around = current_span()
    if rule.kind == "input":
        return not isinstance(around, Span) or around.start.input is not None
    return settings().capture_output and (not isinstance(around, Span) or around.takes_output)


def _listed(subject: Subject) -> list[dict[str, Any]]:
    return [finding.as_dict() for finding in subject.findings]


def _say(made: Any, decision: str, details: dict[str, Any]) -> None:
    made.set(output={"decision": decision, **details}, **{"guard.decision": decision})
    made.end()


def _end(made: Any, error: BaseException) -> None:
    if isinstance(made, Span):
        made.fail(error)
