"""`alerts`: list, add, remove, pause, resume, test, check."""

from __future__ import annotations

import json

import pytest

import tracekeeper as tk
from tracekeeper.tracing.keeper import Keeper

from .conftest import Run


@pytest.fixture(autouse=True)
def slow(keeper: Keeper) -> None:
    tk.log_record(input="q", output="a", app="rag", duration=5)
    assert keeper.ship(20) is None


def test_an_alert_is_added_checked_listed_and_removed(run: Run) -> None:
    assert run("alerts").out == "no alerts\n"
    added = run("alerts", "add", "slow", "--measure", "latency", "--above", "2", "--window", "15m")
    assert (added.code, added.out) == (0, "slow: mean latency above 2.0s over 15m; unknown\n")
    checked = run("alerts", "check")
    assert checked.code == 0
    assert "firing" in checked.out
    [found] = json.loads(run("alerts", "--json").out)
    assert (found["name"], found["state"], found["value"], found["n"]) == ("slow", "firing", 5.0, 1)
    assert "firing" in run("status").out
    assert run("alerts", "pause", "slow").out.endswith("paused\n")
    assert "paused (firing)" in run("alerts", "list").out
    assert json.loads(run("alerts", "resume", "slow", "--json").out)["enabled"] is True
    assert run("alerts", "remove", "slow").out == "removed slow\n"
    assert json.loads(run("alerts", "--json").out) == []


def test_a_secret_comes_from_the_environment_and_is_not_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "hunter2")
    hook = ("--webhook", "https://hooks.example.com/hidden", "--secret-env", "HOOK")
    added = run("alerts", "add", "spend", "--measure", "cost", "--above", "50", *hook)
    assert added.out == "spend: cost of calls above $50.00 over 1h, told to https://hooks.example.com/…; unknown\n"
    shown = run("alerts", "--json").out + run("alerts").out + run("status", "--json").out
    assert "hunter2" not in shown
    assert "hidden" not in shown
    missing = run("alerts", "add", "x", "--measure", "cost", "--above", "1", "--secret-env", "NOPE")
    assert (missing.code, missing.out) == (2, "")
    assert "there is no such environment variable" in missing.err


def test_a_test_that_does_not_arrive_is_said(run: Run) -> None:
    hook = ("--webhook", "http://127.0.0.1:1/x", "--allow-private")
    assert run("alerts", "add", "spend", "--measure", "cost", "--above", "50", *hook).code == 0
    result = run("alerts", "test", "spend")
    assert result.code == 1
    assert "not delivered: http://127.0.0.1:1/… could not be reached" in result.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rmove", "a"), "did you mean 'remove'?"),
        (("remove",), "remove which alert? give its name"),
        (("check", "a"), "check takes no name"),
        (("add", "a", "--measure", "meen", "--above", "1"), "did you mean 'mean'?"),
        (("add", "a", "--score", "m"), "has no threshold"),
        (("add", "a", "--score", "m", "--above", "1", "--window", "0"), "window='0': expected 1 s to 400 days"),
        (("add", "a", "--score", "m", "--above", "x"), "invalid float value"),
        (("add", "a", "--score", "m", "--above", "1", "--filter", "ap = 1"), "unknown field"),
        (
            ("add", "a", "--score", "m", "--above", "1", "--webhook", "http://10.0.0.1/"),
            "10.0.0.1 is a private address",
        ),
    ],
)
def test_what_cannot_be_carried_out_is_a_usage_error(run: Run, words: tuple[str, ...], said: str) -> None:
    result = run("alerts", *words)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_an_alert_that_is_not_there_is_said(run: Run) -> None:
    result = run("alerts", "pause", "slow")
    assert result.code == 1
    assert "there is no alert 'slow'; there are: none" in result.err
