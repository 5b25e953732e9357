"""Two runs on the same items: what is said to be better or worse, and what is not."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.support.calls import call, run

from tracekeeper.evaluation.facts import MetricFacts, RunFacts
from tracekeeper.evaluation.results import Results
from tracekeeper.types import ItemStatus, ScoreStatus

LOWER = {"x": MetricFacts(name="x", direction="minimize")}
HIGHER = {"x": MetricFacts(name="x", direction="maximize", low=0, high=1)}


def numbers(seed: int, n: int, shift: float = 0.0) -> list[float]:
    """Of items that differ much from one another, and little from run to run."""
    hard = random.Random("items")
    noise = random.Random(seed)
    return [hard.random() * 10 + noise.gauss(shift, 0.3) for _ in range(n)]


def test_a_small_difference_shows_because_items_are_paired() -> None:
    before, after = run({"x": numbers(1, 60)}), run({"x": numbers(2, 60, shift=0.3)})
    found = after.compare(before).metrics["x"]
    assert found.difference == pytest.approx(0.3, abs=0.15)
    assert found.interval is not None
    assert found.interval.low > 0
    assert (found.significant, found.statement) == (True, "better, more than noise")
    # The two intervals side by side overlap widely.
    old, new = (results.summary().metrics["x"].interval for results in (before, after))
    assert old is not None
    assert new is not None
    assert new.low < old.high


def test_noise_is_called_noise() -> None:
    found = [
        run({"x": numbers(seed, 30)}).compare(run({"x": numbers(-seed - 1, 30)})).metrics["x"] for seed in range(60)
    ]
    said = [one.statement for one in found]
    # By definition one in twenty is called more than noise; more than 9 of 60 are a matter of less than 0.1 %.
    assert 51 <= said.count("a difference within noise") < 60
    for one in found:
        assert one.interval is not None
        assert (one.interval.low <= 0 <= one.interval.high) == (one.statement == "a difference within noise")


def test_lower_is_better_where_the_metric_says_so() -> None:
    before, after = [0.9, 0.5, 0.4] * 10, [0.5, 0.3, 0.4] * 10
    lower = run({"x": after}, metrics=LOWER).compare(run({"x": before}, metrics=LOWER))
    higher = run({"x": after}, metrics=HIGHER).compare(run({"x": before}, metrics=HIGHER))
    assert lower.metrics["x"].difference == higher.metrics["x"].difference == pytest.approx(-0.2)
    assert lower.metrics["x"].gain == pytest.approx(0.2)
    assert (lower.metrics["x"].improved, higher.metrics["x"].regressed) == (20, 20)
    assert lower.metrics["x"].statement == "better, more than noise"
    assert higher.metrics["x"].statement == "worse, more than noise"
    assert not lower.regressed
    assert not higher.improved


def test_yes_or_no_is_tested_exactly() -> None:
    before = [True] * 10 + [False] * 10
    found = run({"x": [True] * 18 + [False] * 2}).compare(run({"x": before})).metrics["x"]
    assert (found.kind, found.method) == ("boolean", "exact McNemar test, Newcombe's interval")
    assert found.p == pytest.approx(2 * 0.5**8)
    assert (found.improved, found.regressed, found.same) == (8, 0, 12)


def test_labels_change_and_are_neither_better_nor_worse() -> None:
    found = run({"x": ["a", "b", "b", "b"] * 5}).compare(run({"x": ["a", "a", "a", "b"] * 5}))
    x = found.metrics["x"]
    assert (x.kind, x.difference, x.changed, x.labels) == ("label", None, 10, {"a": (15, 5), "b": (5, 15)})
    assert x.p == pytest.approx(2 * 0.5**10)
    assert x.statement == "more than noise"
    assert not found.regressed
    assert [change.verdict for change in found.items].count("changed") == 10


def test_items_are_matched_by_id_and_other_fields_are_said() -> None:
    before = Results([call("a"), call("b"), call("gone"), call("c", fields={"question": "old"}, scores={"x": 0})])
    after = Results([call("new"), call("b"), call("a"), call("c", fields={"question": "new"}, scores={"x": 1})])
    found = after.compare(before)
    assert (found.added, found.removed, found.changed_inputs) == (["new"], ["gone"], ["c"])
    assert {change.item_id for change in found.items} == {"a", "b"}
    assert found.metrics["x"].pairs == 0
    shown = found.text(width=120)
    assert "1 item only in this run: new" in shown
    assert "1 item only in the baseline: gone" in shown
    assert "1 item with other fields than in the baseline, left out: c" in shown


def test_the_worst_regression_comes_first() -> None:
    found = run({"x": [0.9, 0.2, 0.5, 0.6]}, metrics=HIGHER).compare(run({"x": [1.0, 0.9, 0.5, 0.1]}, metrics=HIGHER))
    assert [(change.item_id, round(change.size, 2)) for change in found.regressed] == [("i1", -0.7), ("i0", -0.1)]
    assert [(change.item_id, round(change.size, 2)) for change in found.improved] == [("i3", 0.5)]
    assert [change.item_id for change in found.items] == ["i1", "i0", "i3", "i2"]


def test_a_call_that_fails_now_and_a_score_that_is_lost_are_regressions() -> None:
    before = Results(
        [call("a", output="x", scores={"x": 0.5}), call("b", scores={"x": 0.5}), call("c", ItemStatus.ERROR)]
    )
    after = Results(
        [
            call("a", ItemStatus.TIMED_OUT, reason="no answer within 10 s"),
            call("b", scores={"x": ScoreStatus.FAILED}),
            call("c", output="now", scores={"x": 0.5}),
        ]
    )
    found = after.compare(before)
    assert [change.item_id for change in found.regressed] == ["a", "b"]
    assert [change.item_id for change in found.improved] == ["c"]
    x = found.metrics["x"]
    assert (x.pairs, x.only_before, x.only_after) == (0, 2, 1)
    assert "x has a value only in the baseline on 2 items, only in this run on 1" in found.text(width=120)
    assert "+timed_out: no answer within 10 s" in found.items[0].diff


def test_repeats_are_compared_by_their_mean() -> None:
    def repeated(rows: list[list[bool]]) -> Results:
        return Results(
            call(f"i{item}", repeat=repeat, scores={"x": value})
            for item, row in enumerate(rows)
            for repeat, value in enumerate(row)
        )

    found = repeated([[True, True], [True, False]]).compare(repeated([[True, False], [True, False]])).metrics["x"]
    assert (found.pairs, found.before, found.after, found.kind) == (2, 0.5, 0.75, "number")


def test_the_metric_that_changed_is_named() -> None:
    def version(name: str) -> Results:
        return run({"x": [1.0, 2.0]}, metrics={"x": MetricFacts(name="x", version=name, direction="maximize")})

    found = version("2").compare(version("1"))
    assert found.metrics["x"].versions == ("1", "2")
    assert "x itself changed (version 1, now 2)" in found.text(width=150)


def test_many_metrics_are_allowed_for() -> None:
    """Twenty metrics of pure noise: what one of them shows by chance is said to be possibly chance."""
    names = [f"m{n}" for n in range(20)]

    def noise(seed: str) -> dict[str, list[Any]]:
        drawn = random.Random(seed)
        return {name: [drawn.random() for _ in range(40)] for name in names}

    found = run(noise("a")).compare(run(noise("b")))
    assert all(
        metric.p_adjusted is not None and metric.p_adjusted >= (metric.p or 0) for metric in found.metrics.values()
    )
    assert not [metric for metric in found.metrics.values() if (metric.p_adjusted or 1) < 0.05]
    if found.significant:
        assert "allowing for that (Holm)" in found.text(width=200)


def test_text_markdown_and_plain_data_say_the_same() -> None:
    found = run({"x": [0.0, 1.0] * 10}, name="new").compare(run({"x": [1.0, 1.0] * 10}, name="old"))
    assert "new against old: 20 items, 10 regressed, 0 improved" in found.text(width=100)
    assert "x 1.00 → 0.00" in found.to_markdown()
    plain = found.to_dict()
    assert plain["metrics"]["x"]["statement"] == "worse, more than noise"
    assert (len(plain["items"]), plain["same"]) == (10, 10)
    assert "regressed (10)" in found._repr_html_()
    assert "… and 5 items more" in repr(found)


def test_runs_have_their_facts_in_the_comparison() -> None:
    found = Results([], RunFacts(id="2")).compare(Results([], RunFacts(id="1")))
    assert (found.facts.id, found.baseline.id) == ("2", "1")
    same = Results([], RunFacts(id="0002", name="rag")).compare(Results([], RunFacts(id="0001", name="rag")))
    assert same.text().startswith("0002 against 0001: ")


@pytest.mark.parametrize(("baseline", "said"), [("main", "tk.Experiment.load('main') reads them"), (None, "NoneType")])
def test_a_baseline_that_is_no_results_is_refused_in_a_sentence(baseline: Any, said: str) -> None:
    with pytest.raises(TypeError) as caught:
        Results([]).compare(baseline)
    assert "expected the results of an earlier run" in str(caught.value)
    assert said in str(caught.value)
