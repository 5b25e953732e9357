"""When a build passes: thresholds, regressions beyond noise, and nothing missing taken for good."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.support.calls import call, run

from tracekeeper.evaluation.facts import MetricFacts, RunFacts
from tracekeeper.evaluation.gates import FAILED, INCOMPLETE, PASSED, decide, limit_of
from tracekeeper.evaluation.results import Results
from tracekeeper.types import ItemStatus, ScoreStatus

LOWER = {"x": MetricFacts(name="x", direction="minimize")}


def yes(n: int, of: int) -> list[bool]:
    return [True] * n + [False] * (of - n)


def test_a_mean_under_its_threshold_fails_and_one_at_it_passes() -> None:
    results = run({"exact": yes(16, 20)})
    assert decide(results, fail_under={"exact": 0.8}).exit_code == PASSED
    found = decide(results, fail_under={"exact": 0.81})
    assert (found.exit_code, found.passed) == (FAILED, False)
    assert found.text.splitlines()[0] == "FAILED: exact is 80.0 % (58.4 % to 91.9 %), below 81.0 %"


def test_a_metric_to_be_minimized_fails_above_its_threshold() -> None:
    results = run({"x": [1.0, 2.0, 3.0]}, metrics=LOWER)
    assert decide(results, fail_under={"x": 2}).exit_code == PASSED
    assert decide(results, fail_under={"x": 1.9}).exit_code == FAILED


def test_a_metric_that_judged_nothing_does_not_pass() -> None:
    """Its judge was down: no value is under the threshold, and none is above it."""
    found = decide(run({"x": [ScoreStatus.FAILED] * 3}), fail_under={"x": 0.5}, max_failures=3)
    assert found.exit_code == FAILED
    assert "x has no value on any of 3 calls" in found.text


def test_a_regression_within_noise_does_not_fail_a_build() -> None:
    rng = random.Random(4)
    before = [rng.random() for _ in range(30)]
    after = [value + rng.gauss(-0.03, 0.4) for value in before]
    found = decide(run({"x": after}), baseline=run({"x": before}), max_regression=0.02)
    assert found.exit_code == PASSED
    assert "but within noise" in found.text


def test_a_regression_beyond_noise_fails_unless_it_is_allowed() -> None:
    before, after = run({"exact": yes(95, 100)}), run({"exact": yes(80, 100)})
    found = decide(after, baseline=before, max_regression=0.02)
    assert found.exit_code == FAILED
    assert (
        "exact is worse by 15.0 %, more than the allowed 2.0 % and more than noise (p <0.001, 100 items)" in found.text
    )
    assert decide(after, baseline=before, max_regression=0.2).exit_code == PASSED
    assert decide(after, baseline=before, max_regression={"exact": 0.02}).exit_code == FAILED
    assert decide(before, baseline=after, max_regression=0).exit_code == PASSED


def test_a_regression_is_where_the_metrics_direction_says() -> None:
    before, after = [1.0, 2.0, 1.5] * 10, [2.0, 3.0, 2.5] * 10
    lower = decide(run({"x": after}, metrics=LOWER), baseline=run({"x": before}, metrics=LOWER), max_regression=0.1)
    higher = decide(run({"x": after}), baseline=run({"x": before}), max_regression=0.1)
    assert (lower.exit_code, higher.exit_code) == (FAILED, PASSED)


def test_same_noise_fails_a_build_rarely() -> None:
    """Thirty items, no change: of 200 builds a few are called regressions, half of one in twenty."""
    rng = random.Random(1)

    def draw() -> Results:
        return run({"x": [rng.random() for _ in range(30)]})

    failed = sum(decide(draw(), baseline=draw(), max_regression=0).exit_code == FAILED for _ in range(200))
    assert failed <= 12


def test_the_first_run_has_no_baseline_and_passes() -> None:
    found = decide(run({"x": [0.1]}), max_regression=0)
    assert found.exit_code == PASSED
    assert "there is no baseline yet" in found.text


def test_a_run_with_missing_calls_is_incomplete() -> None:
    found = decide(Results([call("a", scores={"x": 1.0}), call("b", ItemStatus.PENDING)]), fail_under={"x": 0.5})
    assert found.exit_code == INCOMPLETE
    assert "FAILED: 1 of 2 calls have not ended" in found.text
    never = Results([call("a")], RunFacts(missing=9))
    assert decide(never).exit_code == INCOMPLETE
    # A threshold that is missed is the more important thing to say.
    assert decide(Results([call("a", ItemStatus.PENDING)]), max_failures=1).exit_code == INCOMPLETE
    short = Results([call("a", scores={"x": 0.1}), call("b", ItemStatus.PENDING)])
    assert decide(short, fail_under={"x": 0.5}).exit_code == FAILED


@pytest.mark.parametrize(
    ("allowed", "code"), [(0, INCOMPLETE), (1, INCOMPLETE), (2, PASSED), (0.1, INCOMPLETE), (0.2, PASSED)]
)
def test_failures_count_unless_they_are_allowed(allowed: float, code: int) -> None:
    calls = [call(f"i{n}", scores={"x": 1.0}) for n in range(8)]
    calls += [call("error", ItemStatus.ERROR), call("judge", scores={"x": ScoreStatus.TIMED_OUT})]
    found = decide(Results(calls), fail_under={"x": 0.5}, max_failures=allowed)
    assert found.exit_code == code
    assert "2 of 10 calls failed (scores: x 1)" in found.text


def test_a_metric_with_nothing_to_compare_fails_only_when_it_was_named() -> None:
    before, after = run({"y": [1.0]}), run({"x": [1.0], "y": [1.0]})
    assert decide(after, baseline=before, max_regression=0.1).exit_code == PASSED
    found = decide(after, baseline=before, max_regression={"x": 0.1})
    assert found.exit_code == FAILED
    assert "x has no item with a value in both runs" in found.text


def test_labels_have_no_regressions() -> None:
    labels = run({"tone": ["kind", "rude"]})
    assert decide(labels, baseline=labels, max_regression=0.1).exit_code == PASSED
    with pytest.raises(ValueError, match="tone gives labels"):
        decide(labels, baseline=labels, max_regression={"tone": 0.1})
    with pytest.raises(ValueError, match="tone gives labels"):
        decide(labels, fail_under={"tone": 0.1})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fail_under": {"exakt": 1}}, "no metric 'exakt'; did you mean 'exact'"),
        ({"max_regression": {"zz": 1}}, "no metric 'zz'; there are: exact"),
        ({"fail_under": {"exact": float("nan")}}, "the limit of exact is nan: expected a number"),
        ({"max_regression": -0.1}, "cannot be negative"),
        ({"max_failures": -1}, "cannot be negative"),
        ({"max_failures": True}, "expected a number"),
    ],
)
def test_limits_that_cannot_work_are_said_in_one_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decide(run({"exact": [True]}), **options)


@pytest.mark.parametrize("text", ["exact=", "=0.8", "exact", "exact=high", "exact=nan", ""])
def test_limits_that_do_not_parse_are_said(text: str) -> None:
    with pytest.raises(ValueError, match="is no limit; write NAME=NUMBER"):
        limit_of(text)


def test_limits_parse() -> None:
    assert limit_of(" metric.part = 2.5") == ("metric.part", 2.5)
    assert limit_of("a=b=-1") == ("a=b", -1.0)
