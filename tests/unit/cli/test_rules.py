"""``tracekeeper rules``: each action, and what is answered to a mistake."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.rows import Writer, record
from tests.unit.cli.conftest import Run

import tracekeeper as tk
from tracekeeper.scoring.rules.application import apply_rules

METRIC = "tests.support.judges:short"


@pytest.fixture
def journal(keeper: Any) -> Writer:
    return Writer(keeper.store())


def add(run: Run, *words: str, filter: str = 'app = "rag"', metric: str = METRIC) -> Any:
    return run("rules", "add", "r", "--filter", filter, "--metric", metric, *words)


def test_a_rule_is_added_listed_shown_tested_paused_resumed_and_removed(run: Run, keeper: Any, journal: Writer) -> None:
    journal.apply(record(app="rag"), record(app="other"))
    assert add(run, "--sample", "1", "--daily-evaluations", "10", "--since", "beginning").out == "rule 'r' is active\n"
    tested = run("rules", "test", "r").out
    assert "of 2 stored records it matches 1 record; its sample takes 1 of them" in tested
    assert "takes 1 evaluation; budget today: 0 of 10 evaluations" in tested
    apply_rules(keeper)
    listed = run("rules").out
    assert "active" in listed
    assert "1 of 10" in listed
    assert "short" in listed
    shown = run("rules", "show", "r").out
    assert "tests.support.judges:short" in shown
    assert "computed by: tracekeeper worker" in shown
    assert "paused 'r'" in run("rules", "pause", "r").out
    assert tk.rules()[0].enabled is False
    assert "paused" in run("rules", "list").out
    assert "resumed 'r'" in run("rules", "resume", "r").out
    assert tk.rules()[0].enabled is True
    assert "removed 'r'" in run("rules", "remove", "r").out
    assert len(tk.rules()) == 0
    assert run("rules").out == "no rules\n"


def test_programs_get_json(run: Run, journal: Writer) -> None:
    journal.apply(record())
    made = json.loads(add(run, "--json").out)
    assert (made["name"], made["today"], made["metrics"][0]["import_path"]) == (
        *("r", {"evaluations": 0, "cost": 0.0, "open": 0}, METRIC),
    )
    assert json.loads(run("rules", "show", "r", "--json").out)["filter"] == 'app = "rag"'
    assert json.loads(run("rules", "--json").out)[0]["metrics"] == ["short"]
    assert json.loads(run("rules", "test", "r", "--json").out) == {
        "rule": "r",
        "target": "record",
        "records": 1,
        "matched": 1,
        "sampled": 1,
        "evaluations": 1,
    }


def test_spans_sessions_and_parameters_can_be_said(run: Run, journal: Writer) -> None:
    journal.apply(record())
    add(run, "--target", "span", "--span-kind", "retriever", "--span-name", "find", "--paused")
    (rule,) = tk.rules()
    assert (rule.target, rule.spans, rule.enabled) == ("span", {"kind": "retriever", "name": "find"}, False)
    add(run, "--target", "session", "--idle-after", "30", metric="tests.support.judges:polite")
    (rule,) = tk.rules()
    assert (rule.target, rule.idle_after, rule.enabled) == ("session", 30.0, True)
    assert run("rules", "show", "r").out.split("idle after")[1].split()[0] == "30.0s"
    add(run, "--param", "unit=words", "--daily-cost", "2", metric="Length")
    (rule,) = tk.rules()
    assert rule.metrics[0]["parameters"]["unit"] == "words"
    assert rule.daily_cost == 2.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rules", "shwo", "r"), "did you mean 'show'?"),
        (("rules", "show"), "expected the name of a rule"),
        (("rules", "list", "r"), "tracekeeper rules show r"),
        (("rules", "show", "q"), "there is no rule 'q'; did you mean"),
        (("rules", "pause", "r", "--sample", "1"), "--sample is for rules add, not for rules pause"),
        (("rules", "add", "x", "--metric", METRIC), "--filter is missing"),
        (("rules", "add", "x", "--filter", "*"), "--metric is missing"),
        (("rules", "add", "x", "--filter", "", "--metric", METRIC), "the filter is empty"),
        (("rules", "add", "x", "--filter", "ap = 3", "--metric", METRIC), "did you mean app?"),
        (("rules", "add", "x", "--filter", "*", "--metric", f"{METRIC}t"), "did you mean"),
        (("rules", "add", "x", "--filter", "*", "--metric", METRIC, "--daily-cost", "0"), "above 0"),
        (("rules", "add", "x", "--filter", "*", "--metric", METRIC, "--sample", "2"), "at most 1"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(run: Run, journal: Writer, words: tuple[str, ...], said: str) -> None:
    journal.apply(record())
    tk.rule("qq", filter="status = ok", metrics=["Length"])
    result = run(*words)
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err


def test_show_says_when_a_metric_cannot_be_made_here_or_has_changed(run: Run, keeper: Any, journal: Writer) -> None:
    journal.apply(record())
    add(run)
    with keeper.store().write() as connection:
        connection.exec_driver_sql('UPDATE rule SET metrics = replace(metrics, \'"version":"\', \'"version":"old-\')')
    assert "has changed: it is version" in run("rules", "show", "r").out
    with keeper.store().write() as connection:
        connection.exec_driver_sql("UPDATE rule SET metrics = replace(metrics, 'judges:short', 'judges:gone')")
    assert "cannot be made here: metric 'tests.support.judges:gone'" in run("rules", "show", "r").out
