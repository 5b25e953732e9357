"""An experiment as the store has it: results in dataset order, and what a resume has to know."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
import orjson

from tracekeeper.evaluation.accounts import without
from tracekeeper.evaluation.facts import MetricFacts, RunFacts
from tracekeeper.evaluation.result import EarlierCall, ItemResult
from tracekeeper.evaluation.running.run import FINAL
from tracekeeper.evaluation.running.task_app import Before, json_with
from tracekeeper.journal.frames import ItemFrame
from tracekeeper.scoring import stored as stored_records
from tracekeeper.scoring.stored import StoredRecord
from tracekeeper.scoring.views import ITEM
from tracekeeper.tracing import capture, runtime
from tracekeeper.types import ExperimentError, ItemStatus, Score, ScoreStatus

SHIP_WITHIN = 30.0
"""Seconds for storing what this process and dead ones have journaled, before an experiment is read."""
AT_A_TIME = 500
WHOLE = ""
"""Instead of an item's id: what belongs to the run as a whole."""
NOT_THROUGH = "the run is not through"
"""Why there is no score of the run as a whole."""
DIED = "its process ended while it ran"
"""Why a call that had begun is to be made again."""
T = TypeVar("T")
Key: TypeAlias = tuple[str, int]
"""Of a call: item and repeat."""


class Defined(NamedTuple):
    """What a run was asked to do."""

    id: str
    name: str
    started: float
    data: dict[str, Any]

    @property
    def ids(self) -> list[str]:
        """Of its items, in dataset order, as it was when the run began."""
        return self.data["items"]  # type: ignore[no-any-return]

    @property
    def contents(self) -> list[str]:
        """What each of them held, as ``contents_of`` says it; empty: a run of an earlier version, which did not."""
        return self.data.get("contents", [])  # type: ignore[no-any-return]

    @property
    def repeats(self) -> int:
        """Calls of each item."""
        return self.data["options"]["repeats"]  # type: ignore[no-any-return]

    @property
    def metrics(self) -> dict[str, MetricFacts]:
        """By the names of their scores."""
        return {one["name"]: MetricFacts(**one) for one in self.data["metrics"]}

    @property
    def run_metrics(self) -> list[str]:
        """The names of the scores of the run as a whole."""
        return self.data.get("run_metrics", [])  # type: ignore[no-any-return]

    def facts(
        self, *, missing: int, seconds: float | None, interrupted: bool = False, notes: Sequence[str] = ()
    ) -> RunFacts:
        """For ``Results``."""
        data = self.data
        return RunFacts(
            id=self.id,
            name=self.name,
            dataset=data["dataset"],
            dataset_version=data["dataset_version"],
            task=data["task"],
            task_version=data["task_version"],
            started=self.started,
            seconds=seconds,
            missing=missing,
            interrupted=interrupted,
            project=data["project"],
            note="; ".join(notes) or None,
        )


class Found(NamedTuple):
    """An experiment and what became of its calls."""

    defined: Defined
    results: list[ItemResult]
    """Every call, in dataset order; what has not ended is ``pending``."""
    seconds: float | None
    scores: dict[str, Score]
    """Of the run as a whole."""
    at: dict[Key, int]
    """When each call was heard of last, in nanoseconds."""
    interrupted: bool
    """Whether the last that went on with it was not through when Ctrl-C, an exception or its death ended it."""
    notes: list[str]
    """Why it ended early, in sentences."""
    again: dict[Key, int]
    """What was to be called again when a re-run began that has not done all of it: each with its ``at`` of then."""

    def before(self, result: ItemResult) -> Before:
        """What is known of an item that is about to be called, given its present result."""
        return Before(_calls(result), self.at.get(key_of(result), 0))

    def again_with(self, wanted: Callable[[ItemResult], bool]) -> Found:
        """The same when what is wanted is to be called again."""
        again = {key: self.at.get(key, 0) for one in self.results if wanted(one) for key in (key_of(one),)}
        results = [_put_aside(one) if key_of(one) in again else one for one in self.results]
        return self._replace(results=results, again=again)


def defined(wanted: str) -> Defined:
    """The definition of an experiment.

    Raises
    ------
    ExperimentError
        None has this id or name; the nearest are named.
    StoreError
        The database cannot be read.
    """
    if not isinstance(wanted, str) or not wanted:
        raise ExperimentError(f"expected the name or the id of an experiment as text, got {wanted!r}")
    keeper = runtime.keeper()
    keeper.ship(SHIP_WITHIN)
    store = keeper.store()
    row = store.experiment(wanted)
    if row is None:
        known = {name for one in store.experiments() for name in (one.id, one.name)}
        near = difflib.get_close_matches(wanted, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known)[:8])}" if known else ""
        raise ExperimentError(f"there is no experiment {wanted!r} in {keeper.store_url}{hint}")
    data = orjson.loads(row.data)
    return Defined(row.id, row.name, data["started"], data)


def found(wanted: str) -> Found:
    """An experiment with its results."""
    what = defined(wanted)
    store = runtime.keeper().store()
    rows = {(row.item, row.repeat): row for row in store.experiment_items(what.id)}
    whole = rows.pop((WHOLE, 0), None)
    summed = {} if whole is None or whole.data is None else orjson.loads(whole.data)
    again = {(item, repeat): at for item, repeat, at in summed.get("again", ())}
    ids = dict.fromkeys(what.ids)
    ids.update(dict.fromkeys(item for item, _ in rows))  # what a resume found in a dataset that had grown
    wanted_rows = [(item, repeat, rows.get((item, repeat))) for item in ids for repeat in range(what.repeats)]
    results: list[ItemResult] = []
    versions = {name: one.version for name, one in what.metrics.items()}
    for some in chunks(wanted_rows, AT_A_TIME):
        keys = [(row.trace_id, row.span_id) for _, _, row in some if row is not None and row.trace_id]
        records, scores = _records(keys), _scores(keys)
        for item, repeat, row in some:
            key = ("", "") if row is None else (row.trace_id, row.span_id)
            result = _result(item, repeat, row, records.get(key), scores.get(key, {}), versions)
            waits = row is not None and again.get((item, repeat)) == row.at
            results.append(_put_aside(result) if waits else result)
    waiting = {name: Score(status=ScoreStatus.PENDING, reason=NOT_THROUGH, name=name) for name in what.run_metrics}
    of_run = {**waiting, **msgspec.convert(summed.get("scores", {}), dict[str, Score])}
    return Found(
        what,
        results,
        summed.get("seconds"),
        of_run,
        at={key: row.at for key, row in rows.items()},
        interrupted=summed.get("interrupted", False) or any(one.reason == DIED for one in results),
        notes=summed.get("notes", []),
        again=again,
    )


def whole_frame(id: str, status: ItemStatus, data: Mapping[str, Any], again: Mapping[Key, int]) -> ItemFrame:
    """What the journal is told of a run as a whole. ``again``: what is to be called again, of a re-run."""
    listed = [(item, repeat, at) for (item, repeat), at in again.items()]
    return ItemFrame(id, WHOLE, 0, status.value, time.time_ns(), data=json_with(data, "again", listed))


def chunks(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """So many at a time."""
    return (things[first : first + size] for first in range(0, len(things), size))


def _records(keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredRecord]:
    store = runtime.keeper().store()
    rows = store.records_by_key(keys)
    found = stored_records.from_rows(rows, store.payloads([row.id for row in rows]))
    return {(one.trace_id, one.span_id): one for one in found}


def _scores(keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Score]]:
    by_key: dict[tuple[str, str], list[Score]] = {}
    for row in runtime.keeper().store().scores_by_key(keys):
        by_key.setdefault((row.trace_id, row.span_id), []).append(stored_records.score_of(row))
    return {key: stored_records.latest(scores) for key, scores in by_key.items()}


def _result(
    item: str,
    repeat: int,
    row: Any,
    record: StoredRecord | None,
    scores: dict[str, Score],
    versions: Mapping[str, str],
) -> ItemResult:
    if row is None:
        return ItemResult(item_id=item, repeat=repeat, status=ItemStatus.PENDING, reason="it has not begun")
    status, reason = ItemStatus(row.status), row.reason
    if status is ItemStatus.RUNNING and record is not None:
        if record.status == "interrupted":
            status, reason = ItemStatus.PENDING, DIED
        elif record.status == "ok":  # it returned, and its process died before it could say what became of the item
            status = ItemStatus.OK
    kept = _kept(row, record)
    fields = kept.get("fields") or (capture.decode(record.input) if record is not None and record.input else {})
    fields = fields if isinstance(fields, dict) else {"input": fields}
    tokens = kept.get("tokens") or (None, None)
    return ItemResult(
        item_id=item,
        repeat=repeat,
        status=status,
        fields=fields,
        expected=fields.get("expected", fields.get("reference")),
        tags=tuple(kept.get("tags", ())),
        split=kept.get("split", ""),
        output=_output(status, record),
        error=kept.get("error"),
        reason=reason,
        seconds=kept.get("seconds", None if record is None or record.duration is None else record.duration / 1e9),
        attempts=kept.get("attempts", int(status is ItemStatus.OK)),
        cost=kept.get("cost"),
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        trace_id=row.trace_id,
        span_id=row.span_id,
        scores=_scores_of(status, row, scores, versions),
        earlier=msgspec.convert(kept.get("earlier", ()), tuple[EarlierCall, ...]),
    )


def _scores_of(status: ItemStatus, row: Any, scores: dict[str, Score], versions: Mapping[str, str]) -> dict[str, Score]:
    """As the run says: a call that did not end has none yet, and one that is given up has a reason for each."""
    match status:
        case ItemStatus.CANCELLED:
            return {**scores, **without(status, row.reason, versions)}
        case ItemStatus.TIMED_OUT:
            return {**without(status, row.reason, versions), **scores}
        case ItemStatus.ERROR if not row.trace_id:
            return without(status, row.reason, versions)
        case _:
            return scores


def _kept(row: Any, record: StoredRecord | None) -> dict[str, Any]:
    """What was said of an item when its call had ended; before that, what its record began with."""
    if row.data is None and record is not None and record.metadata is not None:
        metadata = capture.decode(record.metadata)
        item = metadata.get(ITEM) if isinstance(metadata, dict) else None
        return {name: item[name] for name in ("fields", "tags", "split") if name in item} if item else {}
    return {} if row.data is None else orjson.loads(row.data)


def _put_aside(result: ItemResult) -> ItemResult:
    """A call that is to be made again, and was not yet."""
    return ItemResult(
        item_id=result.item_id,
        repeat=result.repeat,
        status=ItemStatus.PENDING,
        fields=result.fields,
        expected=result.expected,
        tags=result.tags,
        split=result.split,
        reason="it is to be called again",
        earlier=_calls(result),
    )


def _calls(result: ItemResult) -> tuple[EarlierCall, ...]:
    """Those with an item that have begun, if it is called again: this one too."""
    begun = result.status is not ItemStatus.PENDING or result.trace_id
    return (*result.earlier, result.as_earlier()) if begun else result.earlier


def _output(status: ItemStatus, record: StoredRecord | None) -> Any:
    if status is not ItemStatus.OK or record is None or record.output is None:
        return None
    return capture.decode(record.output)


def key_of(result: ItemResult) -> Key:
    """Which call it is."""
    return result.item_id, result.repeat


def ended(result: ItemResult) -> bool:
    """Whether it is not to be run again."""
    return result.status in FINAL
