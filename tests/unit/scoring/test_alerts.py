"""Alerts: what they refuse, when they fire and cease to, and what of it is written down."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.scoring.alerts.checks import check_alerts, decide, is_due
from tracekeeper.store.alerts.alerts import AlertRow, EventRow, Looked
from tracekeeper.store.alerts.measures import Figure
from tracekeeper.tracing.keeper import Keeper

SECOND = 10**9
NOW = 1_800_000_000 * SECOND


def calls(keeper: object, *seconds: float) -> None:
    """Calls of now that took so long."""
    assert isinstance(keeper, Keeper)
    for each in seconds:
        tk.log_record(input="q", output="a", app="rag", duration=each)
    assert keeper.ship(20) is None


def row(**changes: Any) -> AlertRow:
    values: dict[str, Any] = {
        "id": 1,
        "name": "a",
        "enabled": 1,
        "measure": "mean",
        "score": "m",
        "filter": "",
        "above": None,
        "below": 0.5,
        "window": 3600 * SECOND,
        "min_count": 5,
        "webhook": None,
        "secret": None,
        "allow_private": 0,
        "cooldown": 600 * SECOND,
        "created_at": 0,
        "changed_at": 0,
        "state": "ok",
        "since": 1,
        "value": None,
        "n": None,
        "checked_at": None,
        "check_version": 3,
        "error": None,
        **changes,
    }
    return AlertRow(**values)


def test_an_alert_is_made_changed_by_its_name_and_removed(keeper: object) -> None:
    made = tk.alert("slow", measure="latency", above=2)
    assert (made.state, made.window, made.cooldown, made.min_count) == ("unknown", 3600, 600, 1)
    changed = tk.alert("slow", measure="latency", above=3, window="15m")
    assert [(each.name, each.above, each.window) for each in tk.alerts()] == [("slow", 3.0, 900.0)]
    changed.remove()
    assert list(tk.alerts()) == []
    changed.remove()  # harmless


def test_making_it_again_as_it_is_writes_nothing(keeper: Keeper) -> None:
    tk.alert("slow", measure="latency", above=2)
    before = keeper.store().alerts.get("slow")
    tk.alert("slow", measure="latency", above=2)
    assert keeper.store().alerts.get("slow") == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "the mean of which score? give score="),
        ({"score": "m"}, "has no threshold; give above= or below="),
        ({"measure": "latncy", "above": 1}, "did you mean 'latency'?"),
        ({"measure": "x", "above": 1}, "known are mean, failure_rate, latency"),
        ({"measure": "latency", "above": 1, "score": "m"}, "leave score= out"),
        ({"score": "m", "above": 1, "window": 0}, "window=0: expected 1 s to 400 days"),
        ({"score": "m", "above": 1, "window": "1 parsec"}, "window='1 parsec': expected seconds or a text such as"),
        ({"score": "m", "above": 1, "window": "2parsec"}, "unknown unit of time 'parsec'"),
        ({"score": "m", "above": 1, "window": float("nan")}, "window=nan"),
        ({"score": "m", "above": 1, "cooldown": -1}, "cooldown=-1"),
        ({"score": "m", "above": 0.2, "below": 0.8}, "would always fire"),
        ({"measure": "failure_rate", "above": 1}, "could never fire: failure_rate is always between 0 and 1"),
        ({"measure": "latency", "below": 0}, "could never fire"),
        ({"measure": "cost", "above": float("nan")}, "above=nan: expected a number"),
        ({"measure": "cost", "above": True}, "above=True: expected a number"),
        ({"score": "m", "above": 1, "min_count": 0}, "min_count=0: expected a whole number, 1 or more"),
        ({"score": "m", "above": 1, "webhook": "ftp://a.example/x"}, "expected a URL that begins with https://"),
        ({"score": "m", "above": 1, "webhook": "http://u:p@a.example/x"}, "no user name or password in the URL"),
        ({"score": "m", "above": 1, "webhook": "http://192.168.1.1/x"}, "192.168.1.1 is a private address"),
        ({"score": "m", "above": 1, "webhook": "http://localhost/x"}, "localhost is a loopback address"),
        ({"score": "m", "above": 1, "secret": "s"}, "there is nothing to sign without webhook="),
        ({"score": "m", "above": 1, "webhook": "https://a.example", "secret": "whsec_!"}, "is no base64"),
    ],
)
def test_what_cannot_be_is_said_at_once_in_one_sentence(keeper: object, options: dict[str, Any], said: str) -> None:
    with pytest.raises(tk.ConfigurationError) as caught:
        tk.alert("a", **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tk.alerts()) == []


def test_a_filter_that_does_not_parse_is_said_at_once(keeper: object) -> None:
    with pytest.raises(tk.FilterError, match="unknown field"):
        tk.alert("a", score="m", above=1, filter="ap = 1")


def test_no_secret_and_no_path_is_ever_shown(keeper: Keeper) -> None:
    url, secret = "https://hooks.example.com/services/T0/hidden?token=hidden", "whsec_aGlkZGVuaGlkZGVuaGlkZGVu"
    made = tk.alert("a", score="m", above=1, webhook=url, secret=secret)
    shown = f"{made!r} {made} {tk.alerts()!r} {tk.alerts().to_json()} {keeper.store().alerts.all()!r}"
    assert "hooks.example.com" in shown
    assert "hidden" not in shown
    assert secret not in shown
    assert made.signed


def test_it_fires_once_and_is_resolved_once(keeper: Keeper) -> None:
    calls(keeper, 5, 7)
    made = tk.alert("slow", measure="latency", above=2, window="1h")
    assert check_alerts(keeper) == 1
    [alert] = tk.alerts()
    assert (alert.state, alert.value, alert.n) == ("firing", 6.0, 2)
    assert alert.last_event == "slow: mean latency is 6.0s, above 2.0s (n = 2 in the last 1h)"
    assert check_alerts(keeper) == 0, "somebody has just looked"
    calls(keeper, *[0.1] * 20)
    later = itertools.count(alert_time(keeper), 10 * SECOND)
    assert check_alerts(keeper, now_ns=next(later)) == 0
    assert check_alerts(keeper, now_ns=next(later)) == 1
    [alert] = tk.alerts()
    assert alert.state == "ok"
    assert "as it should be again" in str(alert.last_event)
    kinds = [event.kind for event in keeper.store().alerts.events(1)]
    assert kinds == ["resolved", "fired"]
    made.remove()
    assert keeper.store().alerts.events(1) == []


def alert_time(keeper: Keeper) -> int:
    [alert] = keeper.store().alerts.all()
    assert alert.checked_at is not None
    return alert.checked_at


def test_a_paused_one_is_not_checked_and_goes_on_when_resumed(keeper: Keeper) -> None:
    calls(keeper, 5)
    made = tk.alert("slow", measure="latency", above=2).pause()
    assert not made.enabled
    assert check_alerts(keeper) == 0
    made.resume()
    assert check_alerts(keeper) == 1


def test_another_threshold_begins_anew(keeper: Keeper) -> None:
    calls(keeper, 5)
    tk.alert("slow", measure="latency", above=2)
    check_alerts(keeper)
    assert tk.alert("slow", measure="latency", above=9).state == "unknown"
    check_alerts(keeper)
    assert tk.alerts()[0].state == "ok"
    assert tk.alert("slow", measure="latency", above=9, cooldown="1h").state == "ok", "that is no other question"


def test_below_min_count_the_state_stays_and_why_is_said() -> None:
    for state in ("unknown", "ok", "firing"):
        check = decide(Looked(row(state=state), Figure(0.1, 4), None), NOW)
        assert (check.state, check.event) == (state, None)
        assert check.error == "too few in the last 1h: 4 of 5"
    nothing = decide(Looked(row(state="firing"), Figure(None, 0), None), NOW)
    assert (nothing.state, nothing.event) == ("firing", None)


def test_within_the_cooldown_it_does_not_fire_again() -> None:
    flapping = Looked(row(), Figure(0.1, 9), NOW - 100 * SECOND)
    check = decide(flapping, NOW)
    assert (check.state, check.event) == ("ok", None)
    assert check.error == "below 0.50, but it fired a short while ago; it may again in 8m20s"
    later = decide(flapping, NOW + 501 * SECOND)
    assert later.state == "firing"
    assert later.event is not None
    assert later.event.kind == "fired"


def test_what_could_not_be_measured_changes_nothing() -> None:
    check = decide(Looked(row(state="firing"), Figure(None, 0, "its filter does not parse: x"), None), NOW)
    assert (check.state, check.event, check.error) == ("firing", None, "its filter does not parse: x")


def test_a_figure_at_its_threshold_is_not_past_it() -> None:
    assert decide(Looked(row(state="unknown"), Figure(0.5, 9), None), NOW).state == "ok"


def test_a_long_window_is_looked_at_less_often_and_a_clock_set_back_is_no_reason_to_wait() -> None:
    assert is_due(row(), NOW)
    assert not is_due(row(checked_at=NOW - 3 * SECOND, window=60 * SECOND), NOW)
    assert is_due(row(checked_at=NOW - 4 * SECOND, window=60 * SECOND), NOW)
    assert not is_due(row(checked_at=NOW - 59 * SECOND, window=30 * 86_400 * SECOND), NOW)
    assert is_due(row(checked_at=NOW + 3600 * SECOND), NOW)


def test_a_check_of_an_alert_that_was_changed_meanwhile_has_no_effect(keeper: Keeper) -> None:
    calls(keeper, 5)
    tk.alert("slow", measure="latency", above=2)
    alerts = keeper.store().alerts
    [looked] = alerts.look(alerts.enabled(), NOW * 2)
    check = decide(Looked(looked.alert, Figure(5.0, 1), None), NOW)
    tk.alert("slow", measure="latency", above=9)
    assert alerts.conclude([check], NOW) == []
    assert tk.alerts()[0].state == "unknown"


def test_the_same_check_twice_makes_one_event(keeper: Keeper) -> None:
    calls(keeper, 5)
    tk.alert("slow", measure="latency", above=2)
    alerts = keeper.store().alerts
    [slow] = alerts.enabled()
    checks = [decide(Looked(slow, Figure(5.0, 1), None), NOW) for _ in range(2)]
    made: list[EventRow] = [event for check in checks for event in alerts.conclude([check], NOW)]
    assert len(made) == 1


def test_an_unknown_alert_is_answered_with_the_nearest(keeper: object) -> None:
    tk.alert("slow", measure="latency", above=2).remove()
    gone = tk.alert("slow", measure="latency", above=2)
    gone.remove()
    tk.alert("slower", measure="latency", above=2)
    with pytest.raises(tk.TracekeeperError, match="there is no alert 'slow'; did you mean 'slower'"):
        gone.pause()
    with pytest.raises(tk.TracekeeperError, match="has no webhook"):
        tk.alerts()[0].test()
