"""The leaderboard: a mean never stands without its account."""

from __future__ import annotations

from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.reading.receipts import ACCOUNT_ORDER
from tracekeeper.reading.standings import MetricStanding, account_text, mean_text

pytestmark = pytest.mark.usefixtures("keeper")


def log(version: str, output: str, metrics: list[Any], **options: Any) -> tk.Record:
    return tk.log_record(input="q", output=output, app="rag", version=version, metrics=metrics, **options)


def length(output: str) -> float:
    if output == "bad":
        raise ValueError("too hard")
    return float(len(output))


def tone(output: str) -> str:
    return "polite"


METRICS = [tk.metric(length), tk.metric(tone)]


@pytest.fixture
def board() -> tk.Table[Any]:
    with tk.recording() as recording:
        for output in ("a", "bb", "ccc", "bad"):
            log("1", output, METRICS, duration=len(output))
        log("2", "dddd", [length], duration=1, usage={"input_tokens": 7, "output_tokens": 2, "cost": 0.5})
        tk.log_record(input="q", error="broken")
    recording.wait_for_scores(timeout=20)
    return tk.leaderboard()


def test_each_app_version_has_its_figures(board: tk.Table[Any]) -> None:
    first, second, rest = board
    assert (first.app, first.version, first.records, first.statuses) == ("rag", "1", 4, {"ok": 4})
    assert (first.latency_p50, first.latency_p95) == (2.0, 3.0)
    assert (second.input_tokens, second.output_tokens, second.cost) == (7, 2, 0.5)
    assert (rest.app, rest.version, rest.statuses) == (None, None, {"error": 1})


def test_a_failed_score_is_in_n_and_not_in_the_mean(board: tk.Table[Any]) -> None:
    standing = board[0].metrics["length"]
    assert standing.mean == 2.0
    assert standing.margin == pytest.approx(2.484, abs=0.001)  # t(0.975; 2) · 1 / √3
    assert standing.counts == {"scored": 3, "failed": 1}
    assert standing.n == 4


def test_labels_have_counts_and_no_mean(board: tk.Table[Any]) -> None:
    assert board[0].metrics["tone"] == MetricStanding(mean=None, margin=None, counts={"scored": 4})


def test_programs_get_every_status_of_every_metric(board: tk.Table[Any]) -> None:
    first, second, _ = board.to_dicts()
    for row in (first, second):
        for metric in ("length", "tone"):
            assert row[f"{metric}.n"] == sum(row[f"{metric}.{status}"] for status in ACCOUNT_ORDER)
    assert (first["length.failed"], second["tone.n"], second["tone.mean"]) == (1, 0, None)
    assert str(board.to_pandas()["length.mean"].dtype) == "Float64"


def test_people_see_means_with_their_account(board: tk.Table[Any]) -> None:
    shown = board.text(width=120)
    assert "2.00 ± 2.48" in shown
    assert "4 = 3 scored + 1 failed" in shown
    assert "unmeasured" in shown
    assert "no app" in shown
    assert "<b>scores" in board._repr_html_().replace("\n", "")


@pytest.mark.slow
def test_a_filter_narrows_it() -> None:
    log("1", "a", [length])
    log("2", "b", [length])
    assert [row.version for row in tk.leaderboard('app.version = "2"')] == ["2"]


def test_percentiles_are_the_same_with_and_without_a_filter() -> None:
    for seconds in range(1, 41):
        log("1", "a", [], duration=seconds)
    [whole], [filtered] = tk.leaderboard(), tk.leaderboard('app = "rag"')
    assert (whole.latency_p50, whole.latency_p95) == (20.0, 38.0)
    assert (filtered.latency_p50, filtered.latency_p95) == (20.0, 38.0)


def test_texts() -> None:
    assert mean_text(None) == account_text(None) == "unmeasured"
    assert mean_text(MetricStanding(mean=0.5)) == "0.50"
    assert account_text(MetricStanding(counts={"pending": 2, "scored": 1})) == "3 = 1 scored + 2 pending"


def test_an_empty_leaderboard_says_so() -> None:
    assert tk.leaderboard().text() == "no app versions"
