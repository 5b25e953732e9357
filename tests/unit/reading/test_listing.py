"""Reading records and scores: one's own writes, every state in words, and never silently stale."""

from __future__ import annotations

import json
import math
import threading
from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.reading.columns import UNMEASURED
from tracekeeper.tracing.keeper import Keeper
from tracekeeper.types import ConfigurationError, FilterError

pytestmark = pytest.mark.usefixtures("keeper")


def short(output: str) -> tuple[bool, str]:
    return len(output) < 10, "counted"


def crashes(output: str) -> float:
    raise ValueError("no source")


def nothing(output: str) -> float:
    return math.nan


def ask_once(question: str = "weather?", metrics: list[Any] | None = None, version: str = "1") -> tk.Record:
    @tk.app(name="rag", version=version, metrics=metrics or [])
    def ask(question: str) -> str:
        return "mild"

    with tk.recording() as recording:
        ask(question)
    return recording.get()


def test_a_record_is_there_at_the_first_read() -> None:
    record = ask_once()
    found = tk.records()
    assert list(found) == [record]
    assert found.note is None
    assert (found[0].input, found[0].output, found[0].status) == ({"question": "weather?"}, "mild", "ok")
    assert found.to_dicts()[0] | {"trace_id": record.trace_id, "app": "rag", "tags": []} == found.to_dicts()[0]


def test_records_come_newest_first_and_the_limit_says_that_there_are_more() -> None:
    made = [ask_once(str(n)) for n in range(4)]
    assert list(tk.records(limit=3)) == made[:0:-1]
    assert tk.records(limit=3).note == "these are the newest 3; raise the limit to see more"
    assert tk.records(limit=4).note is None
    assert len(tk.records(limit=None)) == 4
    assert len(tk.records(limit=0)) == 0


@pytest.mark.parametrize("limit", [-1, 1.5, True, "3"])
def test_a_limit_that_is_none_is_refused(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="limit="):
        tk.records(limit=limit)


def test_a_filter_selects_and_a_typo_is_an_error_with_its_place() -> None:
    ask_once(version="1")
    second = ask_once(version="2")
    assert list(tk.records('app = "rag" and app.version = "2"')) == [second]
    with pytest.raises(FilterError, match="did you mean latency"):
        tk.records("latncy > 2s")


def test_every_score_cell_has_a_value_a_status_and_a_reason() -> None:
    gate = threading.Event()

    def waits(output: str) -> float:
        gate.wait(20)
        return 1.0

    record = ask_once(metrics=[short, crashes, nothing, waits, tk.metric(lambda output: 1.0, name="never", sample=0)])
    record.wait_for_scores(["short", "crashes", "nothing"], timeout=20)
    other = ask_once(metrics=[short])
    other.wait_for_scores(timeout=20)
    try:
        newer, older = tk.records_and_scores().to_dicts()
    finally:
        gate.set()
    assert (older["short"], older["short.status"], older["short.reason"]) == (True, "scored", "counted")
    assert (older["crashes"], older["crashes.status"]) == (None, "failed")
    assert "no source" in older["crashes.reason"]
    assert (older["nothing"], older["nothing.status"]) == (None, "failed")
    assert (older["waits"], older["waits.status"]) in ((None, "pending"), (None, "running"))
    assert (older["never"], older["never.status"]) == (None, "skipped")
    assert older["never.reason"]
    assert (newer["crashes"], newer["crashes.status"], newer["crashes.reason"]) == (None, UNMEASURED, None)
    record.wait_for_scores(timeout=20)


def test_the_printed_table_accounts_for_each_metric(capsys: pytest.CaptureFixture[str]) -> None:
    ask_once(metrics=[short, crashes]).wait_for_scores(timeout=20)
    ask_once(metrics=[short]).wait_for_scores(timeout=20)
    tk.records_and_scores().print(width=200)
    shown = capsys.readouterr().out
    assert "scored true" in shown
    assert "failed: the metric raised ValueError" in shown
    assert UNMEASURED in shown
    assert "crashes: n = 1 = 1 failed\nshort: n = 2 = 2 scored\n" in shown


def test_a_nan_poisons_no_read() -> None:
    ask_once(metrics=[nothing]).wait_for_scores(timeout=20)
    assert tk.records_and_scores().to_dicts()[0]["nothing.status"] == "failed"
    assert json.loads(tk.records_and_scores().to_json())[0]["nothing"] is None
    assert tk.leaderboard()[0].metrics["nothing"].counts == {"failed": 1}


@pytest.mark.slow
def test_scores_in_pandas_are_never_a_float_nan() -> None:
    pandas = pytest.importorskip("pandas")
    ask_once(metrics=[short, crashes]).wait_for_scores(timeout=20)
    frame = tk.records_and_scores().to_pandas()
    assert frame["short"].tolist() == [True]
    assert str(frame["short"].dtype) == "boolean"
    assert frame["crashes"].iloc[0] is pandas.NA
    assert frame["crashes.status"].tolist() == ["failed"]


def test_a_table_does_not_change_after_it_was_read() -> None:
    record = ask_once(metrics=[short])
    record.wait_for_scores(timeout=20)
    table = tk.records_and_scores()
    tk.score(record, "short", 0.5)
    assert table.to_dicts()[0]["short"] is True


def test_what_could_not_be_stored_in_time_is_said(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_once()
    monkeypatch.setattr(Keeper, "ship", lambda self, timeout=None: "the database is locked")
    assert tk.records().note == "not everything traced before this read is in it yet: the database is locked"
    assert tk.leaderboard().note is not None


def test_drops_are_shown_wherever_data_is(keeper: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    ask_once()
    assert keeper.journal is not None
    keeper.journal.count_drop("journal full", 3)
    ask_once()
    for table in (tk.records(), tk.records_and_scores(), tk.leaderboard()):
        assert table.text().splitlines()[-1] == "dropped: 3 (journal full)"
