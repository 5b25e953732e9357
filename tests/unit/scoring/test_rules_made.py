"""Making a rule: what can never work is said at once, in one sentence."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.support import judges
from tests.support.rows import Writer, record

import tracekeeper as tk


def make(**changes: Any) -> tk.Rule:
    return tk.rule("r", **{"filter": 'app = "rag"', "metrics": [judges.short], **changes})


def refused(error: type[Exception] = tk.ConfigurationError, **changes: Any) -> str:
    with pytest.raises(error) as caught:
        make(**changes)
    text = str(caught.value)
    assert len(tk.rules()) == 0
    return text


def local(output: str) -> bool:
    return True


local.__module__ = "__main__"


def test_a_rule_is_what_it_was_made(keeper: object) -> None:
    made = make(sample=0.5, daily_evaluations=100, daily_cost=2.5)
    (found,) = tk.rules()
    assert (found.name, found.filter, found.target, found.sample) == ("r", 'app = "rag"', "record", 0.5)
    assert (found.daily_evaluations, found.daily_cost, found.idle_after, found.enabled) == (100, 2.5, 0.0, True)
    assert found.metrics == made.metrics
    assert found.metrics[0]["import_path"] == "tests.support.judges:short"
    assert tk.rules().to_dicts()[0]["metrics"] == ["short"]
    assert tk.rules().to_dicts()[0]["today"] == "0 of 100 evaluations, $0 of $2.5"


def test_metrics_are_given_as_objects_functions_or_names(keeper: object) -> None:
    given = [judges.short, judges.both, tk.metrics.Length(unit="words"), "tests.support.judges:long", "exact_match"]
    made = make(metrics=given)
    assert [metric["name"] for metric in made.metrics] == ["short", "pair", "length", "long", "exact_match"]
    assert made.metrics[2]["parameters"]["unit"] == "words"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sample": 0}, "sample=0: expected a share above 0 and at most 1"),
        ({"sample": 1.5}, "sample=1.5: expected a share"),
        ({"sample": math.nan}, "sample=nan: expected a share"),
        ({"sample": True}, "sample=True: expected a share"),
        ({"daily_evaluations": 0}, "daily_evaluations=0: expected a whole number above 0"),
        ({"daily_evaluations": -3}, "daily_evaluations=-3: expected a whole number above 0"),
        ({"daily_evaluations": 1.5}, "daily_evaluations=1.5: expected a whole number above 0"),
        ({"daily_cost": 0}, "daily_cost=0: expected an amount of US dollars above 0"),
        ({"daily_cost": math.inf}, "daily_cost=inf: expected an amount"),
        ({"metrics": []}, "expected at least one metric"),
        ({"target": "sesion"}, "target='sesion': expected 'record' or 'span' or 'session'; did you mean 'session'?"),
        ({"since": "yesterday"}, "since='yesterday': expected 'now' or 'beginning'"),
        ({"spans": {"kind": "llm"}}, "spans= is for target='span', not 'record'"),
        ({"target": "span", "spans": {"kind": "retriver"}}, "did you mean 'retriever'?"),
        ({"target": "span", "spans": {"model": "x"}}, "expected kind or name or both"),
        ({"idle_after": 60}, "idle_after=60 is for target='session', not 'record'"),
        ({"target": "session", "metrics": [judges.polite], "idle_after": 0}, "expected a positive number of seconds"),
        ({"target": "session", "metrics": [judges.grounded]}, "needs 'context', which a session does not have"),
        ({"enabled": 1}, "enabled=1: expected True or False"),
        ({"metrics": [lambda output: 1]}, "is local"),
        ({"metrics": [local]}, "no worker could import it; move it into a module"),
    ],
)
def test_what_cannot_work_is_refused(keeper: object, changes: dict[str, Any], said: str) -> None:
    text = refused(**changes)
    assert said in text
    assert "\n" not in text
    assert "'r'" in text


def test_a_metric_that_nothing_is_named_like_is_refused_with_the_nearest_name(keeper: object) -> None:
    assert "did you mean 'tests.support.judges:short'" in refused(tk.MetricError, metrics=["tests.support.judges:shor"])
    assert "does not import" in refused(tk.MetricError, metrics=["tests.suport.judges:short"])
    assert "did you mean 'length'" in refused(tk.MetricError, metrics=["lenght"])
    assert "expected a list of metrics" in refused(tk.MetricError, metrics=judges.short)


def test_a_filter_that_does_not_parse_points_at_the_place(keeper: object) -> None:
    with pytest.raises(tk.FilterError) as caught:
        make(filter='app = "rag" and latncy > 2s')
    assert caught.value.position == 16
    assert "latency" in str(caught.value)


def test_an_empty_filter_says_what_judging_everything_would_mean(keeper: Any) -> None:
    Writer(keeper.store()).apply(*(record() for _ in range(1234)))
    text = refused(filter="  ")
    assert text == "rule 'r': the filter is empty; to judge every record, of which 1,234 are stored now, say filter='*'"


def test_a_rule_that_matches_everything_says_so_at_once(keeper: Any, caplog: pytest.LogCaptureFixture) -> None:
    journal = Writer(keeper.store())
    journal.apply(*(record() for _ in range(20)))
    for filter in ("*", "latency >= 0s"):
        made = make(filter=filter)
        assert made.note is not None
        assert "matches all 20 stored records" in made.note
    assert [line.getMessage().count("matches all 20 stored records") for line in caplog.records] == [1, 1]
    # Limited or selective rules have nothing to say, nor has one that is said again.
    assert make(filter="latency >= 0s").note is None
    assert make(filter="*", sample=0.5).note is None
    assert make(filter="*", daily_evaluations=10).note is None
    assert make(filter="status = error").note is None


def test_a_session_metric_with_a_name_of_other_tools_is_told_ours(keeper: object) -> None:
    judge = tk.metric(judges.polite).with_function(_of_messages)
    assert "did you mean 'turns'?" in refused(target="session", metrics=[judge])


def _of_messages(messages: Any) -> bool:
    return bool(messages)


def test_a_preview_counts_without_judging(keeper: Any) -> None:
    journal = Writer(keeper.store())
    journal.apply(*(record(app=app, session_id=f"s{n % 7}") for n in range(50) for app in ("rag", "other")))
    assert make().matching() == (100, 50, 50, 50)
    assert make(metrics=[judges.short, judges.both]).matching().evaluations == 100
    sampled = make(sample=0.5).matching()
    assert sampled.matched == 50
    assert 10 < sampled.sampled < 40
    assert make(target="session", metrics=[judges.polite], idle_after=5).matching() == (100, 7, 7, 7)
    assert make(target="span", spans={"kind": "task"}).matching() == (100, 50, 50, 50)
    assert keeper.store().score_counts() == {}


def test_with_tracing_turned_off_a_rule_is_checked_and_not_kept(
    keeper: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEKEEPER_DISABLED", "1")
    refused(sample=0)
    made = make()
    assert made.name == "r"
    assert made.today.evaluations == 0
    made.pause()
    made.remove()
    assert len(tk.rules()) == 0
