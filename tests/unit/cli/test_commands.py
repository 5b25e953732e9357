"""The reading commands and `score`, on records of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tracekeeper as tk

from .conftest import Run

METRICS = """\
def long(output, limit=3):
    return len(output) > limit

def crashes(output):
    raise ValueError("no source")
"""


@pytest.fixture
def records(keeper: object) -> list[tk.Record]:
    def short(output: str) -> bool:
        return len(output) < 3

    made = [
        tk.log_record(input=f"q{n}", output="a" * n, app="rag", version=str(n % 2), metrics=[short], duration=5 - n)
        for n in range(1, 5)
    ]
    for record in made:
        record.wait_for_scores(timeout=20)
    return made


def test_records_for_people_and_for_programs(run: Run, records: list[tk.Record]) -> None:
    result = run("records", 'app.version = "1"')
    assert result.code == 0
    assert [line.split()[-1] for line in result.out.splitlines()[2:]] == ["aaa", "a"]
    found = json.loads(run("records", "--json", "--limit", "all").out)
    assert [row["output"] for row in found] == ["aaaa", "aaa", "aa", "a"]
    limited = run("records", "--json", "--limit", "1")
    assert len(json.loads(limited.out)) == 1
    assert "newest 1" in limited.err


def test_records_with_scores(run: Run, records: list[tk.Record]) -> None:
    assert "scored true" in run("records", "--scores").out
    found = json.loads(run("records", "--scores", "--json", "score.short = true").out)
    assert [(row["short"], row["short.status"]) for row in found] == [(True, "scored")] * 2


def test_leaderboard(run: Run, records: list[tk.Record]) -> None:
    assert "2 = 2 scored" in run("leaderboard").out
    found = json.loads(run("leaderboard", "--json", "latency > 1s").out)
    assert [(row["version"], row["records"], row["short.n"]) for row in found] == [("0", 1, 1), ("1", 2, 2)]


def test_show_a_record_with_its_spans_and_scores(run: Run) -> None:
    @tk.trace(kind="retriever")
    def look(question: str) -> list[str]:
        return ["one"]

    @tk.app(name="rag", version="1", metrics=[tk.metric(lambda output: (1.0, "because"), name="fine")])
    def ask(question: str) -> str:
        return look(question)[0]

    with tk.recording() as recording:
        ask("q")
    record = recording.get()
    record.wait_for_scores(timeout=20)
    shown = run("show", record.trace_id).out
    assert "because" in shown
    assert "\n  look retriever ok" in shown
    [found] = json.loads(run("show", f"{record.trace_id}:{record.span_id}", "--json").out)
    assert found["scores"]["fine"]["value"] == 1.0
    assert [span["name"] for span in found["spans"]] == ["rag", "look"]


@pytest.mark.parametrize(("trace", "said"), [("nonsense", "is no trace id"), ("0" * 32, "no record")])
def test_show_what_is_not_there(run: Run, records: list[tk.Record], trace: str, said: str) -> None:
    result = run("show", trace)
    assert (result.code, result.out) == (1, "")
    assert said in result.err


def test_status_for_people_and_for_programs(run: Run, records: list[tk.Record]) -> None:
    shown = run("status")
    assert shown.code == 0
    assert "4 = 4 scored" in shown.out
    assert "live" in shown.out
    found = json.loads(run("status", "--json").out)
    assert found["stored"]["records"] == 4
    assert sum(journal["pending"] for journal in found["journals"]) == 0


def test_score_settles_every_stored_record(run: Run, records: list[tk.Record]) -> None:
    result = run("score", "--metric", "Length", "--metric", "exact_match", "--filter", 'app.version = "1"')
    assert result.code == 0
    assert "scores: 4 = 2 scored + 2 skipped" in result.out
    assert "scores: 4 of 4" in result.err
    found = tk.records_and_scores('app.version = "1"').to_dicts()
    assert [row["length"] for row in found] == [3.0, 1.0]
    assert tk.records_and_scores('app.version = "0"').to_dicts()[0].get("length.status") is None


def test_score_leaves_alone_what_was_judged_unless_again(run: Run, records: list[tk.Record]) -> None:
    run("score", "--metric", "length")
    second = run("score", "--metric", "length")
    assert "scores: none" in second.out
    assert "4 were judged before" in second.out
    third = json.loads(run("score", "--metric", "length", "--again", "--json").out)
    assert (third["scores"], third["judged_before"]) == ({"scored": 4}, 0)


def test_score_by_ones_own_metrics_with_parameters(
    run: Run, records: list[tk.Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_metrics.py").write_text(METRICS)
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run(
        *("score", "--metric", "own_metrics:long", "--metric", "own_metrics:crashes"),
        *("--param", "own_metrics:long.limit=1", "--timeout", "5", "--concurrency", "2"),
    )
    assert result.code == 1, "a metric failed"
    assert "8 = 4 scored + 4 failed" in result.out
    assert [row["long"] for row in tk.records_and_scores().to_dicts()] == [True, True, True, False]


def test_a_parameter_for_no_metric_is_a_usage_error(run: Run, records: list[tk.Record]) -> None:
    result = run("score", "--metric", "Length", "--param", "Lenght.unit=words")
    assert result.code == 2
    assert "did you mean 'Length'?" in result.err
