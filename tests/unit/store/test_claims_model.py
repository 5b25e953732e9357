"""Scores that are claimed, against a model: any order of events, any clock, any number of workers that come and go.

The model (``support.claims_model``) is the state machine of ``docs/design/leases.md`` in plain Python. After each event
the store must say the same as the model; and whatever happened, in the end everything comes to a final state by
somebody who is alive.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support.claiming import wanted
from tests.support.claims_model import FINAL, LEASE, OPEN, WITHIN, Model, Score
from tests.support.rows import SECOND, Writer, birth, record

from tracekeeper.journal.frames import ScoreFrame
from tracekeeper.store import ingest
from tracekeeper.store.claims.claims import Claim
from tracekeeper.store.store import Store


class Clock:
    def __init__(self, model: Model) -> None:
        self.model = model

    def time_ns(self) -> int:
        return self.model.now


_numbers = itertools.count(1)
_store: Store
NAMES = ("a", "b", "c")
names = st.sampled_from(NAMES)
workers = st.integers(0, 1)


@pytest.fixture(scope="module", autouse=True)
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One store for all examples: opening one each would take most of the time."""
    global _store
    _store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('claims') / 'store.db'}")
    yield
    _store.close()


class Claims(RuleBasedStateMachine):
    """A producer with a background and two deferred scores; two workers; a clock that may be set."""

    def __init__(self) -> None:
        super().__init__()
        self.store = _store
        self.model = Model()
        self.number = next(_numbers)
        self.real_time = ingest.time
        ingest.time = Clock(self.model)  # type: ignore[assignment]
        self.writers: dict[str, Writer] = {}
        self.lives = itertools.count()
        self.values = itertools.count(1)
        self.void: set[float] = set()
        """Values of frames that were refused: none may ever be seen."""
        self.jobs: dict[str, dict[tuple[str, int], None]] = {}
        """What each worker believes to compute, whatever became of it: score name and attempt."""
        self.finals: dict[str, tuple[Any, ...]] = {}

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.everything_comes_to_an_end()
        finally:
            ingest.time = self.real_time
            with self.store.write() as connection:
                connection.exec_driver_sql("DELETE FROM score_attempt")
                connection.exec_driver_sql("DELETE FROM score")

    @initialize(taken=st.lists(st.tuples(workers, names), max_size=3))
    def born(self, taken: list[tuple[int, str]]) -> None:
        self.producer = self.new("producer")
        self.workers = [self.new(f"worker{number}") for number in range(2)]
        modes = {"a": "background", "b": "deferred", "c": "deferred"}
        self.write = record(*(birth(name, local=False, mode=mode) for name, mode in modes.items()))
        self.writers[self.producer].apply(self.write)
        self.model.seen[self.producer] = self.model.now
        for name, mode in modes.items():
            self.model.scores[name] = Score(name, mode, self.model.now, self.producer)
        for which, name in taken:
            self._take(self.workers[which], name, again=False)

    def new(self, kind: str) -> str:
        name = f"{kind}-{self.number}-{next(self.lives)}"
        self.writers[name] = Writer(self.store, name)
        self.store.renew_producer(self.writers[name].id, self.model.now)
        self.model.seen[name], self.model.refused[name], self.jobs[name] = self.model.now, 0, {}
        return name

    # -- events -------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 2, 5, 20, 40, 70]))
    def time_passes(self, seconds: int) -> None:
        self.model.now += seconds * SECOND

    @rule(seconds=st.sampled_from([-3600, -40, 3600]))
    def the_clock_is_set(self, seconds: int) -> None:
        self.model.now += seconds * SECOND

    @rule(which=workers, limit=st.sampled_from([1, 2]), deferred=st.booleans())
    def claim(self, which: int, limit: int, deferred: bool) -> None:
        self._claim(self.workers[which], limit, deferred)

    @rule()
    def the_producer_claims(self) -> None:
        self._claim(self.producer, 10, True)

    def _claim(self, who: str, limit: int, deferred: bool) -> list[Claim]:
        model = self.model
        found = self.store.claim(
            who, [(name, "v") for name in NAMES], limit=limit, lease=30.0, now_ns=model.now, deferred=deferred
        )
        may = [each for each in model.scores.values() if each.mode != "deferred" or deferred]
        if any(map(model.claimable, may)) or any(model.may_be_freed(each, who) for each in model.scores.values()):
            model.before_claim(who)
        could = [each.name for each in may if model.claimable(each)]
        assert {each.name for each in found} <= set(could)
        assert len(found) == min(limit, len(could))
        self._claimed(who, found)
        return found

    def _claimed(self, who: str, found: list[Claim]) -> None:
        for claim in found:
            score = self.model.scores[claim.name]
            if score.owner != who or score.lease != self.model.now + LEASE or score.attempt != claim.attempt:
                self.model.claim(score, who)
            assert (claim.attempt, claim.lost) == (score.attempt, score.lost)
            self.jobs[who][claim.name, claim.attempt] = None

    @rule(which=workers, name=names, again=st.booleans())
    def take(self, which: int, name: str, again: bool) -> None:
        self._take(self.workers[which], name, again)

    def _take(self, who: str, name: str, again: bool) -> None:
        asked = [wanted(self.write, name)]
        found = self.store.take(who, asked, lease=30.0, again=again, now_ns=self.model.now)
        assert len(found) == self.model.take(self.model.scores[name], who, again)
        for claim in found:
            self.jobs[who][name, claim.attempt] = None
            self.finals.pop(name, None)

    @rule()
    def everybody_renews(self) -> None:
        for who in self.workers:
            self._renew(who)

    @rule(which=workers)
    def renew(self, which: int) -> None:
        self._renew(self.workers[which])

    def _renew(self, who: str) -> None:
        kept = self.store.renew_claims(who, lease=30.0, now_ns=self.model.now)
        own = [each for each in self.model.scores.values() if each.owner == who and each.status in OPEN]
        for score in own:
            score.lease = self.model.now + LEASE
        assert len(kept) == len(own)

    @rule(which=workers, pause=st.sampled_from([None, 5, 1000]))
    def release(self, which: int, pause: int | None) -> None:
        who, model = self.workers[which], self.model
        rows = self.store.scores_by_key([self.key])
        until = None if pause is None else model.now + pause * SECOND
        count = self.store.release(who, [row.id for row in rows], available_at=until, now_ns=model.now)
        own = [each for each in model.scores.values() if each.owner == who and each.status in OPEN]
        for score in own:
            if score.status == "running":
                score.attempts[score.attempt] = ("cancelled", 1)
            score.status, score.owner, score.lease, score.journal = "pending", "", None, None
            score.available = None if until is None else min(until, model.now + 60 * SECOND)
            score.started = False
        assert count == len(own)

    @rule(who=st.sampled_from(["producer", "worker", "nobody"]))
    def reap(self, who: str) -> None:
        name = {"producer": self.producer, "worker": self.workers[0]}.get(who, "")
        assert self.store.reap(self.model.now, 30.0, owner=name) == self.model.reap(name)

    @rule()
    def what_is_overdue_fails(self) -> None:
        assert self.store.settle_overdue(self.model.now, WITHIN) == self.model.overdue()

    @rule()
    def the_producer_is_heard_of(self) -> None:
        self.store.renew_producer(self.writers[self.producer].id, self.model.now)
        self.model.seen[self.producer] = self.model.now

    @rule(which=workers, seconds=st.sampled_from([31, 70]))
    def somebody_was_stopped_for_long(self, which: int, seconds: int) -> None:
        """Another worker looks after a lease, and claims what can be claimed then."""
        self.model.now += seconds * SECOND
        assert self.store.reap(self.model.now, 30.0) == self.model.reap("")
        self.model.now += 5 * SECOND
        self._claim(self.workers[which], 10, True)

    # -- frames -------------------------------------------------------------------------------------------------------

    @rule(which=workers, data=st.data(), status=st.sampled_from(["running", "scored", "failed", "timed_out"]))
    def a_worker_says(self, which: int, data: st.DataObject, status: str) -> None:
        """Of anything that it ever claimed, also of what it lost since."""
        who = self.workers[which]
        if self.jobs[who]:
            name, attempt = data.draw(st.sampled_from(sorted(self.jobs[who])))
            self.say(who, name, [(attempt, status)])

    @rule(which=workers, data=st.data(), together=st.booleans(), status=st.sampled_from(["running", "scored"]))
    def a_worker_tries_again(self, which: int, data: st.DataObject, together: bool, status: str) -> None:
        """Its engine's own retry; unless it has claimed the score anew, when it would stop the earlier job."""
        who = self.workers[which]
        newest = dict(sorted(self.jobs[who]))
        if newest:
            name = data.draw(st.sampled_from(sorted(newest)))
            attempt = newest[name]
            del self.jobs[who][name, attempt]
            self.jobs[who][name, attempt + 1] = None
            retry = [(attempt, "failed"), (attempt + 1, "pending")]
            for part in [retry] if together else [retry[:1], retry[1:]]:
                self.say(who, name, part)
            self.say(who, name, [(attempt + 1, status)])

    @rule(name=names, attempt=st.integers(1, 2), status=st.sampled_from(["running", "scored", "failed"]))
    def the_producer_says(self, name: str, attempt: int, status: str) -> None:
        self.say(self.producer, name, [(attempt, status)])

    def say(self, who: str, name: str, frames: list[tuple[int, str]], **more: Any) -> None:
        model, score = self.model, self.model.scores[name]
        told = [(*each, float(next(self.values)) if each[1] == "scored" else None) for each in frames]
        before = model.refused[who]
        final = score.status in FINAL
        model.apply(score, who, *told)
        refused = model.refused[who] - before
        made = [self.frame(name, *each) for each in told]
        assert self.writers[who].apply(scores=made, **more).refused == refused
        if refused:
            self.void |= {value for _, _, value in told if value is not None}
            if final:
                assert score.status in FINAL, "a refused frame changes nothing"

    def frame(self, name: str, attempt: int, status: str, value: float | None) -> ScoreFrame:
        start = self.write.start
        began = None if status == "pending" else self.model.now
        return ScoreFrame(
            *("record", name, status, start.trace_id, start.span_id, "", "v"),
            value=value,
            attempt=attempt,
            started=began,
            local=False,
        )

    # -- deaths -------------------------------------------------------------------------------------------------------

    @rule(which=workers, name=names, done=st.booleans())
    def a_worker_dies(self, which: int, name: str, done: bool) -> None:
        """Its journal is adopted; the last batch may hold a result."""
        who = self.workers[which]
        held = [each for each in self.jobs[who] if each[0] == name]
        if done and held:
            model, score = self.model, self.model.scores[name]
            attempt, value = max(held)[1], float(next(self.values))
            before = model.refused[who]
            model.apply(score, who, (attempt, "scored", value))
            if model.refused[who] > before:
                self.void.add(value)
            self.writers[who].apply(scores=[self.frame(name, attempt, "scored", value)], interrupt=True)
        else:
            self.writers[who].apply(interrupt=True)
        self.model.die(who)
        self.workers[which] = self.new("worker")

    @rule()
    def the_producer_dies(self) -> None:
        self.writers[self.producer].apply(interrupt=True)
        self.model.die(self.producer)
        self.producer = self.new("producer")

    # -- what holds at every moment -----------------------------------------------------------------------------------

    @property
    def key(self) -> tuple[str, str]:
        start = self.write.start
        return start.trace_id.hex(), start.span_id.hex()

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        if not self.model.scores:
            return
        rows = self.store.scores_by_key([self.key])
        assert tuple(row.name for row in rows) == NAMES, "exactly one current score of each key"
        ids = {writer.id: name for name, writer in self.writers.items()}
        for row in rows:
            score = self.model.scores[row.name]
            said = (row.status, row.attempt, row.owner, row.lease_until, row.lost, row.available_at, row.value)
            expected = (score.status, score.attempt, score.owner, score.lease, score.lost, score.available, score.value)
            assert said == expected, row.name
            assert (None if row.journal_id is None else ids[row.journal_id]) == score.journal
            attempts = {each.attempt: (each.status, each.lapsed) for each in self.store.attempts_of([row.id])}
            assert attempts == score.attempts
            assert row.lost <= 3
            assert row.value not in self.void or row.value is None, "the value of a frame that was refused"
            kept = {each.value for each in self.store.attempts_of([row.id])} - {None}
            assert not kept & self.void
            self.no_final_score_changes(row)

    def no_final_score_changes(self, row: Any) -> None:
        """Unless a higher attempt replaces it."""
        known = self.finals.get(row.name)
        if known is not None:
            assert row.attempt > known[0] or (row.attempt, row.status, row.value) == known
        if row.status in FINAL:
            self.finals[row.name] = (row.attempt, row.status, row.value)

    @invariant()
    def every_refused_frame_is_counted(self) -> None:
        for name, writer in self.writers.items():
            row = self.store.journal_row(writer.row.name)
            assert row is not None
            assert row.refused == self.model.refused[name], name

    def everything_comes_to_an_end(self) -> None:
        """One worker that lives finishes everything within two leases and the pauses, whatever state it finds."""
        if not self.model.scores:
            return
        self.model.now += 2 * LEASE + 2 * SECOND
        survivor = self.new("worker")
        for _ in range(4):
            assert self.store.reap(self.model.now, 30.0, owner=survivor) == self.model.reap(survivor)
            for claim in self._claim(survivor, 10, True):
                self.say(survivor, claim.name, [(claim.attempt, "scored")])
            self.the_store_says_what_the_model_says()
            self.model.now += 30 * SECOND
        assert {score.status for score in self.model.scores.values()} <= set(FINAL)


Claims.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestClaims = pytest.mark.slow(Claims.TestCase)
