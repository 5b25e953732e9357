"""What a run's scores say, and that nothing is ever silently missing."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.calls import call, run

from tracekeeper.evaluation.facts import MetricFacts, RunFacts
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.results import Results
from tracekeeper.statistics import bootstrap_mean, wilson
from tracekeeper.types import ItemStatus, Score, ScoreStatus

values = st.one_of(
    st.booleans(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-5, 5),
    st.sampled_from(["good", "bad"]),
    st.none(),
    st.sampled_from(list(ScoreStatus)),
)


def some_score(value: Any) -> Score:
    return Score(status=value) if isinstance(value, ScoreStatus) else Score(value)


calls = st.lists(
    st.builds(
        lambda item, repeat, status, scores: ItemResult(
            item_id=item,
            repeat=repeat,
            status=status,
            scores={name: some_score(value) for name, value in scores.items()},
        ),
        st.sampled_from("abcdef"),
        st.integers(0, 2),
        st.sampled_from(list(ItemStatus)),
        st.dictionaries(st.sampled_from(["x", "y"]), values),
    ),
    max_size=20,
)


@given(calls)
def test_every_metric_accounts_for_every_call_whatever_happened(items: list[ItemResult]) -> None:
    results = Results(items, metrics={"declared": MetricFacts(name="declared")})
    found = results.summary()
    assert "declared" in found.metrics
    assert sum(found.statuses.values()) == len(items)
    for metric in found.metrics.values():
        assert metric.n == len(items)
        assert metric.mean is None or math.isfinite(metric.mean)
        assert (metric.kind == "none") == (metric.scored == 0)
    for text in (results.to_json(), results.to_csv(), results.to_markdown(), results.to_html(), results.to_junit()):
        assert text
    document = json.loads(results.to_json() or "", parse_constant=pytest.fail)
    assert len(document["items"]) == len(items)


def test_a_metric_that_failed_on_all_items_is_there_with_its_reasons() -> None:
    results = run({"judge": [Score(status=ScoreStatus.FAILED, error="KeyError: 'context'")] * 3})
    judge = results.summary().metrics["judge"]
    assert (judge.kind, judge.mean, judge.interval) == ("none", None, None)
    assert judge.counts == {"failed": 3}
    assert [(reason.status, reason.text, reason.n) for reason in judge.reasons] == [
        (ScoreStatus.FAILED, "KeyError: 'context'", 3)
    ]
    assert "3 failed: KeyError: 'context'" in results.text(width=200)


def test_a_metric_that_gave_no_score_at_all_is_there() -> None:
    declared = {"judge": MetricFacts(name="judge", direction="maximize")}
    results = Results([call("a"), call("b", ItemStatus.ERROR), call("c", ItemStatus.PENDING)], metrics=declared)
    judge = results.summary().metrics["judge"]
    assert judge.counts == {"skipped": 2, "pending": 1}
    assert {reason.text for reason in judge.reasons} == {"not measured", "the task failed", "the call has not begun"}


def test_nan_counts_as_failed_and_never_reaches_the_mean() -> None:
    found = run({"x": [1.0, float("nan"), 0.5]}).summary().metrics["x"]
    assert (found.mean, found.counts) == (0.75, {"scored": 2, "failed": 1})
    assert found.reasons[0].text == "its value is nan, no finite number"


def test_yes_or_no_has_wilsons_interval_and_numbers_the_bootstraps() -> None:
    found = run({"yes": [True] * 8 + [False] * 2, "ones": [1.0] * 8 + [0] * 2, "number": [0.1 * n for n in range(10)]})
    metrics = found.summary().metrics
    assert (metrics["yes"].mean, metrics["yes"].method) == (0.8, "Wilson")
    assert metrics["yes"].interval == metrics["ones"].interval == wilson(8, 10)
    assert metrics["number"].interval == bootstrap_mean([0.1 * n for n in range(10)])
    assert metrics["number"].method == "bootstrap"
    assert run({"few": [0.1, 0.5, 0.7]}).summary().metrics["few"].method == "Student's t"
    one = run({"x": [0.5]}).summary().metrics["x"]
    assert (one.mean, one.interval) == (0.5, None)


def test_labels_have_a_distribution_and_no_mean() -> None:
    tone = run({"tone": ["kind", "rude", "kind", ScoreStatus.TIMED_OUT]}).summary().metrics["tone"]
    assert (tone.kind, tone.mean, tone.labels) == ("label", None, {"kind": 2, "rude": 1})
    assert tone.counts == {"scored": 3, "timed_out": 1}


def repeated(rows: list[list[Any]]) -> Results:
    return Results(
        call(f"i{item}", repeat=repeat, scores={"exact": value})
        for item, row in enumerate(rows)
        for repeat, value in enumerate(row)
    )


def test_repeats_are_no_independent_draws() -> None:
    """Calling each item ten times, always with the same outcome, tells nothing new of the items."""
    once = repeated([[n % 3 == 0] for n in range(30)]).summary().metrics["exact"]
    often = repeated([[n % 3 == 0] * 10 for n in range(30)]).summary().metrics["exact"]
    assert once.mean == pytest.approx(often.mean)
    assert once.interval is not None
    assert often.interval is not None
    assert often.interval.margin == pytest.approx(once.interval.margin, rel=0.15)
    assert (often.n, often.items, often.spread) == (300, 30, 0.0)


def test_pass_at_k_and_pass_hat_k_over_items() -> None:
    found = repeated([[True, True, True, True], [True, False, False, False], [False, False, True, False]]).summary()
    exact = found.metrics["exact"]
    assert found.repeats == 4
    assert exact.pass_at == pytest.approx({1: 0.5, 2: 2 / 3, 3: 5 / 6, 4: 1.0})
    assert exact.pass_hat == pytest.approx({1: 0.5, 2: 1 / 3, 3: 1 / 3, 4: 1 / 3})
    assert exact.pass_items == {1: 3, 2: 3, 3: 3, 4: 3}


def test_a_call_that_failed_does_not_count_as_a_wrong_one() -> None:
    exact = repeated([[True, ScoreStatus.FAILED], [True, True]]).summary().metrics["exact"]
    assert exact.mean == 1
    assert exact.pass_items == {1: 2, 2: 1}


def test_groups_by_tag_split_field_and_function() -> None:
    items = [
        call(
            "a",
            tags=("hard", "long"),
            split="test",
            fields={"topic": "geo", "user": {"plan": "free"}},
            scores={"x": 1.0},
        ),
        call("b", tags=("hard",), fields={"topic": "art", "user": {"plan": "paid"}}, scores={"x": 0.0}),
        call("c", fields={"user": {}}, scores={"x": ScoreStatus.FAILED}),
    ]
    results = Results(items)
    tags = results.summary(by="tags")
    assert {name: found.calls for name, found in tags.items()} == {"hard": 2, "long": 1, "no tags": 1}
    assert tags["hard"].metrics["x"].mean == 0.5
    assert tags["no tags"].metrics["x"].counts == {"failed": 1}
    assert tags.note == "1 item has several tags and is in several groups"
    assert list(results.summary(by="split")) == ["test", "no split"]
    assert list(results.summary(by="topic")) == ["geo", "art", "no topic"]
    assert list(results.summary(by="user.plan")) == ["free", "paid", "no user.plan"]
    assert list(results.summary(by=lambda one: one.item_id < "b")) == ["true", "false"]
    with pytest.raises(ValueError, match="no item has a field 'topics'; did you mean 'topic'"):
        results.summary(by="topics")
    shown = str(results.summary(by="topic").table)
    assert "geo" in shown
    assert "no topic" in shown


def test_totals_of_latency_cost_and_tokens_say_what_is_unknown() -> None:
    items = [
        call("a", seconds=1.0, cost=0.5, input_tokens=10, output_tokens=1),
        call("b", seconds=3.0),
        call("c", ItemStatus.TIMED_OUT, seconds=60.0),
    ]
    found = Results(items).summary()
    assert (found.latency_p50, found.cost, found.cost_calls, found.input_tokens) == (2.0, 0.5, 1, 10)
    assert "reported by 1 of 3 calls" in Results(items).text()
    nothing = Results([call("a")]).summary()
    assert (nothing.cost, nothing.input_tokens, nothing.latency_p95) == (None, None, None)


def test_results_without_an_item() -> None:
    results = Results([], RunFacts(name="empty"), metrics={"x": MetricFacts(name="x")})
    assert results.summary().metrics["x"].n == 0
    assert results.complete
    results.raise_for_failures()
    for text in (results.text(), results._repr_html_(), results.to_html(), results.to_csv(), results.to_markdown()):
        assert text
    assert results.compare(results).metrics["x"].statement == "nothing to compare"
