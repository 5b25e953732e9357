"""Rules against a model: whatever arrives, runs, settles, crashes or jumps, each decision is made, and made once."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.conftest import FULL
from tests.support import judges
from tests.support.rows import SECOND, Writer, end, record, start

import tracekeeper as tk
from tracekeeper.scoring.rules import application as rule_application
from tracekeeper.scoring.rules.application import apply_rules
from tracekeeper.scoring.rules.sampling import is_sampled
from tracekeeper.store.rows import SpanWrite
from tracekeeper.testing import temporary_keeper
from tracekeeper.types import faults

NOON = 20_000 * 86_400 * SECOND + 43_200 * SECOND
BUDGET = 3
POINTS = ("rules.looked", "rules.begun", "rules.asked", "rules.commit", "rules.committed")


class Crash(BaseException):
    """The process dies here."""


class Rules(RuleBasedStateMachine):
    """Three rules: a sampled one with a budget, one that waits for its scores, and one on sessions."""

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        place = self.stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        self.keeper: Any = self.stack.enter_context(temporary_keeper(Path(place)))
        self.store = self.keeper.store()
        self.journal = Writer(self.store)
        self.now = NOON
        self.running: list[Any] = []
        self.records: list[tuple[str, str, str]] = []  # trace id, span id, how it ends
        self.sessions: set[str] = set()
        self.stack.callback(setattr, rule_application, "SHARE", rule_application.SHARE)
        self.stack.callback(setattr, rule_application, "AT_ONCE", rule_application.AT_ONCE)
        rule_application.SHARE, rule_application.AT_ONCE = 0, 3
        self.cheap = tk.rule(
            "cheap", filter="status = ok", metrics=[judges.short], sample=0.7, daily_evaluations=BUDGET
        )
        self.thorough = tk.rule("thorough", filter="score.short = true", metrics=[judges.long])
        self.talks = tk.rule("talks", filter="status = error", target="session", metrics=[judges.polite], idle_after=60)

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            try:
                self.come_to_rest()
            finally:
                self.stack.close()

    @rule(status=st.sampled_from(["ok", "error"]), session=st.sampled_from("abc"), runs=st.booleans())
    def arrive(self, status: str, session: str, runs: bool) -> None:
        fields = {"session_id": session, "started": self.now}
        if runs:
            begun = start(app="rag", app_version="1", **fields)
            self.running.append((begun, status))
            self.journal.apply(SpanWrite(begun))
        else:
            done = record(status=status, **fields)
            begun = done.start
            self.journal.apply(done)
        self.records.append((begun.trace_id.hex(), begun.span_id.hex(), status))
        if status == "error":
            self.sessions.add(session)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 100))
    def finish(self, which: int) -> None:
        begun, status = self.running.pop(which % len(self.running))
        self.journal.apply(ends=[end(begun, max(0.0, (self.now - begun.started) / SECOND), status=status)])

    @rule(truth=st.booleans())
    def settle(self, truth: bool) -> None:
        """A worker settles the oldest score that waits."""
        with self.store.write() as connection:
            connection.exec_driver_sql(
                "UPDATE score SET status = 'scored', value = ?, value_type = 'bool', attempt = attempt + 1, "
                "owner = NULL, settled_at = created_at WHERE id = (SELECT min(id) FROM score WHERE status = 'pending')",
                (float(truth),),
            )

    @rule(seconds=st.sampled_from([1, 45, 61, 3_600, 86_400, -90, -86_400]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule()
    def apply(self) -> None:
        apply_rules(self.keeper, now_ns=self.now, seconds=30)

    @rule(point=st.sampled_from(POINTS), after=st.integers(0, 4))
    def crash(self, point: str, after: int) -> None:
        left = [after]

        def die() -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Crash

        with faults.armed(point, die), suppress(Crash):
            apply_rules(self.keeper, now_ns=self.now, seconds=30)

    @rule()
    def pause_or_resume(self) -> None:
        self.cheap.refresh()
        (self.cheap.pause if self.cheap.enabled else self.cheap.resume)()

    @invariant()
    def no_day_is_over_its_budget(self) -> None:
        if hasattr(self, "store"):
            for day in self.read("SELECT evaluations FROM rule_day WHERE rule_id = (SELECT id FROM rule LIMIT 1)"):
                assert day[0] <= BUDGET

    def come_to_rest(self) -> None:
        """Everything ends and settles, and time passes: then everything is decided."""
        while self.running:
            self.finish(0)
        self.cheap.resume()
        for _ in range(6):
            self.now += 300 * SECOND
            self.apply()
            while self.read("SELECT 1 FROM score WHERE status = 'pending'"):
                self.settle(True)
        for row in tk.rules():
            assert row.error is None
        assert self.read("SELECT * FROM rule_wait") == []
        short = self.scores("short")
        fine = {key[:2] for key in self.records if key[2] == "ok"}
        assert set(short) == fine
        for key, (status, reason, _) in short.items():
            chosen = is_sampled("cheap", f"record:{key[0]}:{key[1]}", 0.7)
            assert (reason == "not sampled") == (not chosen), (status, reason)
        true = {key for key, (status, _, value) in short.items() if (status, value) == ("scored", 1.0)}
        assert set(self.scores("long")) == true
        self.cheap.refresh()
        assert self.cheap.matched == len(fine) == self.cheap.judged + self.cheap.not_sampled + self.cheap.over_budget
        judged = [row[0] for row in self.read("SELECT status FROM score WHERE name = 'short' AND status = 'scored'")]
        assert self.cheap.judged == len(judged)
        of_sessions = self.read("SELECT session_id, status FROM score WHERE target = 'session' ORDER BY session_id")
        assert of_sessions == [(each, "scored") for each in sorted(self.sessions)]
        newest = "(SELECT max(id) FROM record WHERE record.session_id = rule_session.session_id)"
        assert self.read(f"SELECT * FROM rule_session WHERE judged_record_id IS NOT {newest}") == []

    def scores(self, name: str) -> dict[tuple[str, str], tuple[str, str | None, float | None]]:
        rows = self.read(f"SELECT trace_id, span_id, status, reason, value FROM score WHERE name = '{name}'")
        return {(row[0], row[1]): (row[2], row[3], row[4]) for row in rows}

    def read(self, statement: str) -> list[Any]:
        with self.store.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]


TestRules = pytest.mark.slow(Rules.TestCase)
TestRules.settings = settings(
    max_examples=150 if FULL else 12, stateful_step_count=40 if FULL else 25, deadline=None, derandomize=not FULL
)
