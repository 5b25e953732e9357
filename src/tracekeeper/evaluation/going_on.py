"""Which calls of an experiment are made again, and the run that makes them.

A resume and a re-run read what the store has, decide which calls are to be made, and hand them to a run like that of
``tk.evaluate``. They differ in that decision alone: a resume makes the calls that have not ended, a re-run those that
ended badly. What a re-run has decided is one frame of the journal, written before its first call. So it is there whole
or not at all, and whoever comes after a crash does exactly the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from tracekeeper.evaluation import stored
from tracekeeper.evaluation.evaluate import Begun, made_for, run_of
from tracekeeper.evaluation.experiment import Experiment
from tracekeeper.evaluation.given_again import Given, same
from tracekeeper.evaluation.item import Item
from tracekeeper.evaluation.options import checked
from tracekeeper.evaluation.plan import Plan
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.running.task_app import PREFIX
from tracekeeper.evaluation.stored import Found, key_of, whole_frame
from tracekeeper.reading.rescoring import rescore
from tracekeeper.tracing import runtime
from tracekeeper.types import ConfigurationError, ItemStatus, ScoreStatus

LOST = "its process ended"
"""How the reason of a score begins that was lost with the process that was to compute it."""
CallOutcome = Literal["error", "timed_out", "interrupted", "pending"]
"""How a call went that did not end well; see ``rerun_failures``."""
OUTCOMES: tuple[CallOutcome, ...] = ("error", "timed_out", "interrupted", "pending")
FAILED: tuple[CallOutcome, ...] = ("error", "timed_out", "interrupted")


class Again(NamedTuple):
    """A run that goes on with an experiment, and whether scores of calls that are kept were lost."""

    begun: Begun
    lost: bool

    def done(self) -> Experiment:
        """Go through with it."""
        experiment = self.begun.done()
        return self._judged(experiment) if self.lost else experiment

    async def adone(self) -> Experiment:
        """The same without blocking the running loop."""
        experiment = await self.begun.adone()
        return await asyncio.to_thread(self._judged, experiment) if self.lost else experiment

    def _judged(self, experiment: Experiment) -> Experiment:
        rescore(f'tag = "{PREFIX}{experiment.id}"', list(self.begun.metrics))
        fresh = {key_of(one): one for one in Experiment.load(experiment.id)}
        return self.begun.experiment([fresh.get(key_of(one), one) for one in experiment])


def resumed(experiment: str | Experiment, given: Given) -> Again:
    """The run of the calls that have not ended."""
    found, plan, items = same(experiment, given)
    return _again(found, plan, items, given, lambda one: not stored.ended(one))


def rerun(experiment: str | Experiment, given: Given, outcomes: CallOutcome | Iterable[CallOutcome]) -> Again:
    """The run of the calls that ended as one of ``outcomes`` says; or the rest of a re-run that was interrupted."""
    wanted = _outcomes(outcomes)
    found, plan, items = same(experiment, given)
    had = {one.item_id for one in found.results}
    items = [item for item in items if item.id in had]
    fresh = not found.again  # else a re-run was interrupted, and this is its rest
    if fresh:
        found = found.again_with(lambda one: _outcome_of(one) in wanted)
    made = _again(found, plan, items, given, lambda one: key_of(one) in found.again and not stored.ended(one))
    if fresh and found.again:
        _decided(found)
    return made


def _decided(found: Found) -> None:
    """Write down what is to be called again, all in one. The scores of the run as a whole hold no longer."""
    whole = {"seconds": found.seconds}
    runtime.keeper().write(whole_frame(found.defined.id, ItemStatus.RUNNING, whole, found.again))


def _again(
    found: Found,
    plan: Plan,
    items: Sequence[Item],
    given: Given,
    wanted: Callable[[ItemResult], bool],
) -> Again:
    """A run of the calls whose present result is ``wanted``, and of those that have none."""
    known = {key_of(one): one for one in found.results}
    repeats = found.defined.repeats
    kept: dict[int, ItemResult] = {}
    earlier = {}
    work = []
    for place, (item, repeat) in enumerate((item, repeat) for item in items for repeat in range(repeats)):
        one = known.get((item.id, repeat))
        if one is not None and not wanted(one):
            kept[place] = one if one.fields else _with_fields(one, item)
            continue
        work.append((item, repeat, place))
        if one is not None:
            earlier[place] = found.before(one)
    options = {**checked({"executor": given.executor}), **found.defined.data["options"], "progress": given.progress}
    run = run_of(found.defined, plan, work, options, made_for(plan, options), earlier)
    begun = Begun(
        found.defined, run, len(items) * repeats, kept, plan.metrics, given.whole, time.monotonic(), found.again
    )
    return Again(begun, any(_lost(one, plan) for one in kept.values()))


def _with_fields(result: ItemResult, item: Item) -> ItemResult:
    """A result whose call never began, so that the store knows nothing of its item."""
    given = {"fields": item.fields, "expected": item.expected, "tags": item.tags, "split": item.split}
    return msgspec.structs.replace(result, **given)


def _outcome_of(result: ItemResult) -> CallOutcome | None:
    """How a call went that did not end well."""
    if result.status is ItemStatus.ERROR:
        return "error"
    if result.status is ItemStatus.TIMED_OUT:
        return "timed_out"
    if stored.ended(result):
        return None
    return "pending" if result.status is ItemStatus.PENDING and not result.trace_id else "interrupted"


def _outcomes(given: CallOutcome | Iterable[CallOutcome]) -> frozenset[str]:
    wanted = [given] if isinstance(given, str) else [*given]
    wrong = [one for one in wanted if one not in OUTCOMES]
    if wrong or not wanted:
        said = repr(wrong[0]) if wrong else "none"
        raise ConfigurationError(f"outcomes: expected some of {', '.join(OUTCOMES)}, not {said}")
    return frozenset(wanted)


def _lost(result: ItemResult, plan: Plan) -> bool:
    """Whether a score of an item that had ended went with its process."""
    if result.status is not ItemStatus.OK:
        return False
    for name in (name for one in plan.metrics for name in one.names):
        score = result.scores.get(name)
        if score is None or not score.final or score.status is ScoreStatus.CANCELLED:
            return True
        if score.status is ScoreStatus.FAILED and (score.reason or "").startswith(LOST):
            return True
    return False
