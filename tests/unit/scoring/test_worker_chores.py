"""What is done for the store now and then: one chore that fails keeps no other from being done."""

from __future__ import annotations

import time
from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.scoring.alerts import checks as alert_checks
from tracekeeper.scoring.engine import engine_for
from tracekeeper.scoring.rules import application as rule_application
from tracekeeper.scoring.worker.chores import Chores


@pytest.fixture
def chores(keeper: Any) -> Chores:
    keeper.begin()
    assert keeper.ship(20) is None
    return engine_for(keeper).claimer.chores


def test_a_chore_that_fails_keeps_no_other_from_being_done(chores: Chores, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def broken(keeper: Any) -> None:
        done.append("rules")
        raise ZeroDivisionError

    monkeypatch.setattr(rule_application, "apply_rules", broken)
    monkeypatch.setattr(alert_checks, "check_alerts", lambda keeper: done.append("alerts"))
    monkeypatch.setattr(chores.claimer, "ready", lambda: True)
    with pytest.raises(ZeroDivisionError):
        chores._turn()
    assert done == ["rules", "alerts"]
    with pytest.raises(ZeroDivisionError):
        chores._turn()
    assert done == ["rules", "alerts", "rules"]  # alerts are not due again yet


def test_rules_that_have_more_to_do_are_not_kept_waiting(chores: Chores, monkeypatch: pytest.MonkeyPatch) -> None:
    applied = rule_application.Applied(rounds=1, more=True)
    monkeypatch.setattr(rule_application, "apply_rules", lambda keeper: applied)
    monkeypatch.setattr(chores.claimer, "ready", lambda: True)
    assert chores._turn() == 0.0
    applied = rule_application.Applied()
    assert chores._turn() == chores.claimer.manner.chores_every


def test_an_app_that_has_stored_nothing_does_nothing_in_the_store(keeper: Any) -> None:
    def quick(output: str) -> int:
        return 1

    ask = tk.App(lambda question: "mild", name="demo", metrics=[quick])
    claimer = engine_for(keeper).claimer
    assert not claimer.ready()
    ask("q")
    ask.wait_for_scores(timeout=20)
    assert keeper.ship(20) is None
    assert claimer.ready()
    assert [beat.name for beat in claimer.beats if beat.started] == ["tracekeeper-claims-app", "tracekeeper-chores"]
    beats = claimer.beats
    assert keeper.close(20) is None
    assert all(beat.join(time.monotonic() + 10) for beat in beats)
    assert not claimer.ready()
    ask("again")  # tracing goes on, and so does this
    ask.wait_for_scores(timeout=20)
    assert keeper.ship(20) is None
    assert claimer.ready()
