"""How often the task was called with an item: every report says it, where it was more than once."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.calls import call

import tracekeeper as tk
from tracekeeper.evaluation.result import EarlierCall
from tracekeeper.evaluation.results import Results
from tracekeeper.types import ItemStatus


def once() -> Results:
    return Results([call("a", output="x", attempts=1, trace_id="1" * 32), call("b", ItemStatus.PENDING)])


def again() -> Results:
    died = EarlierCall(status=ItemStatus.CANCELLED, reason="its process ended while it ran", trace_id="2" * 32)
    wrong = EarlierCall(status=ItemStatus.ERROR, error="ValueError: <no>", attempts=2, cost=0.25)
    return Results(
        [
            call("a", output="x", attempts=1, cost=0.5),
            call("b", output="y", attempts=1, cost=0.5, earlier=(wrong, died)),
            call("c", ItemStatus.ERROR, error="KeyError: 'c'", attempts=3),
        ]
    )


def data_of(page: str) -> Any:
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_totals_count_every_call_of_the_task() -> None:
    found = again().summary()
    assert (found.called, found.called_again, found.cost, found.earlier_cost) == (8, 2, 1.0, 0.25)
    assert [one.called for one in again()] == [1, 4, 3]
    nothing = once().summary()
    assert (nothing.called, nothing.called_again, nothing.earlier_cost) == (1, 0, None)


def test_every_report_for_people_says_it() -> None:
    said = "2 of 3, 8 calls of the task in all; those before cost $0.25"
    results = again()
    assert re.search(rf"called again +{re.escape(said)}", results.text(width=160))
    assert f"- called again: {said}".replace("$", "\\$") in (results.to_markdown() or "")
    assert f"<dt>called again</dt><dd>{said}</dd>" in (results.to_html() or "")
    assert said in results._repr_html_()
    assert "3 times" in results.text(width=160).partition("failures")[2]
    assert "3 times" in (results.to_markdown() or "").partition("Failures")[2]
    assert "called" in results.table.shown


def test_the_page_says_what_became_of_the_calls_before() -> None:
    items = data_of(again().to_html() or "")["items"]
    assert [item["called"] for item in items] == [1, 4, 3]
    assert items[1]["earlier"] == [
        "error after 2 attempts: ValueError: <no>",
        "cancelled: its process ended while it ran",
    ]
    assert "<no>" not in (again().to_html() or "")


def test_programs_get_a_column_and_totals(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(again().to_csv() or "", newline="")))
    assert [(row["attempts"], row["called"]) for row in rows] == [("1", "1"), ("1", "4"), ("3", "3")]
    again().to_json(tmp_path / "r.json")
    summary = json.loads((tmp_path / "r.json").read_text())["summary"]
    assert (summary["called"], summary["called_again"], summary["earlier_cost"]) == (8, 2, 0.25)
    assert Results.from_json(tmp_path / "r.json").summary() == again().summary()


def test_pandas_has_the_column() -> None:
    pytest.importorskip("pandas")
    assert again().to_pandas()["called"].tolist() == [1, 4, 3]


def test_where_everything_was_called_once_nothing_is_said() -> None:
    for text in (once().text(width=160), once().to_markdown() or "", once()._repr_html_()):
        assert "called" not in text
    assert "called" not in once().table.shown


def test_retries_and_a_rerun_are_counted_in_the_result_and_in_the_store(keeper: object) -> None:
    calls = 0

    def third(number: int) -> str:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise ValueError(calls)
        return "at last"

    first = tk.evaluate([{"id": "i", "number": 1}], third, retries=1, name="third")
    assert (first.items[0].attempts, first.items[0].called) == (2, 2)
    done = tk.rerun_failures("third", task=third, data=[{"id": "i", "number": 1}])
    assert (done.items[0].output, done.items[0].attempts, done.items[0].called, calls) == ("at last", 2, 4, 4)
    assert tk.Experiment.load("third").items[0].called == 4
