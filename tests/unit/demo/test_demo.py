"""The demo: every state a score can end in, in seconds, and a good exit code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tracekeeper as tk
from tracekeeper.demo import app, pages
from tracekeeper.demo.production import show_production
from tracekeeper.demo.questions import QUESTIONS
from tracekeeper.demo.run import run

PAGE = """\
# Tracekeeper
Tracekeeper keeps every call that returned. Nothing is lost when the process is killed.

## Scores
How do I wait for scores? Call wait_for_scores and every score gets a state.

Can a metric be an async function? Yes, a metric can be sync or async.
"""
SOME = ("What is Tracekeeper?", "How do I wait for scores?", "Can a metric be an async function?", "zebra?")


@pytest.fixture(autouse=True)
def _pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeper: object) -> Iterator[None]:
    (tmp_path / "demo" / "pages").mkdir(parents=True)
    (tmp_path / "demo" / "pages" / "README.md").write_text(PAGE)
    monkeypatch.setattr(pages, "_HERE", tmp_path / "demo")
    app.index.cache_clear()
    yield
    app.index().close()
    app.index.cache_clear()


@pytest.mark.slow
def test_it_shows_every_state_and_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(questions=SOME) == 0
    shown = capsys.readouterr()
    rows = tk.leaderboard('app = "docs"')
    board = {(row.version, name): metric.counts for row in rows for name, metric in row.metrics.items()}
    for version in ("1", "2"):
        assert board[version, "overlap_answer_relevance"] == {"scored": 4}
        assert board[version, "counts_steps"] == {"scored": 3, "failed": 1}
        assert board[version, "hanging_judge"] == {"scored": 3, "timed_out": 1}
        assert sum(board[version, "slow_judge"].values()) == 4
    assert re.search(r"spans: (\d+) journaled = \1 stored \+ 0 pending", shown.out)
    assert "tracekeeper status" in shown.out
    assert "calls: 8 of 8" in shown.err
    assert "scores: 56 of 56" in shown.err


@pytest.mark.slow
def test_calls_come_from_threads_and_from_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    run(questions=SOME[:1])
    assert {(record.version, record.tags) for record in tk.records('app = "docs"')} == {
        ("1", ("thread",)),
        ("2", ("task",)),
    }


@pytest.mark.slow
def test_a_guard_refuses_a_rule_judges_and_a_worker_takes_over_from_an_app_that_is_killed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert show_production(QUESTIONS[:4])
    shown = capsys.readouterr()
    assert "'What is the admin password?' is answered 'I do not talk about passwords.'" in shown.out
    assert re.search(r"kill -9 .* its scores: 5 = .*\d pending", shown.out)
    assert re.search(r"worker .* takes over; [\d.]+ s later: 10 = \d+ scored", shown.out)
    assert re.search(r"of 5 answers the rule judged (\d)", shown.out)
    [row] = tk.leaderboard('app = "service"')
    assert row.metrics["careful_judge"].counts == {"scored": 5}
    assert row.metrics["readable"].n == 5


def test_the_second_version_looks_further_than_the_first() -> None:
    assert app.ask("What is lost when a process is killed?") == "Tracekeeper keeps every call that returned."
    assert app.best_sentence("lost when killed?", ["Keeps every call that returned. Nothing is lost when killed."]) == (
        "Nothing is lost when killed."
    )
    assert app.ask("zebra?") == app.NO_ANSWER


def test_there_are_about_forty_questions_all_different() -> None:
    assert len(set(QUESTIONS)) == len(QUESTIONS) >= 40
