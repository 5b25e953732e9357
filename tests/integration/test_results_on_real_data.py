"""What the results of a run say of 714 sentences that people judged (QAGS)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tracekeeper import metrics
from tracekeeper.evaluation.facts import MetricFacts, RunFacts, metric_facts
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.evaluation.results import Results
from tracekeeper.types import ItemStatus, Score

QAGS = Path(__file__).parents[2] / ".." / "shared" / "data" / "qags" / "mturk_cnndm.jsonl"
pytestmark = pytest.mark.skipif(not QAGS.exists(), reason=f"human labels are not here: {QAGS}")


@pytest.fixture(scope="module")
def judged() -> list[tuple[str, str, bool, Score]]:
    """Article and sentence, sentence, majority of three votes, groundedness by overlap."""
    judge = metrics.OverlapGroundedness()
    found = []
    for number, line in enumerate(QAGS.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        for place, sentence in enumerate(row["summary_sentences"]):
            votes = [response["response"] == "yes" for response in sentence["responses"]]
            result = judge(sentence["sentence"], [row["article"]])
            score = Score(result[0], reason=result[1]) if isinstance(result, tuple) else result
            found.append((f"{number}.{place}", sentence["sentence"], sum(votes) * 2 > len(votes), score))
    return found


def run_at(judged: list[tuple[str, str, bool, Score]], threshold: float) -> Results:
    calls = []
    for item, sentence, label, score in judged:
        # What declined to judge has no agreement either, with the same reason.
        agrees = score if score.value is None else Score((float(score.value) >= threshold) == label)
        calls.append(
            ItemResult(
                item_id=item,
                status=ItemStatus.OK,
                fields={"sentence": sentence, "expected": label},
                expected=label,
                output=sentence,
                scores={"overlap_groundedness": score, "agrees": agrees},
            )
        )
    facts = metric_facts([metrics.OverlapGroundedness()]) | {"agrees": MetricFacts(name="agrees", direction="maximize")}
    return Results(calls, RunFacts(name=f"threshold {threshold}", dataset="QAGS"), metrics=facts)


def test_the_summary_accounts_for_all_714_sentences(judged: list[tuple[str, str, bool, Score]]) -> None:
    found = run_at(judged, 0.5).summary()
    grounded = found.metrics["overlap_groundedness"]
    assert (grounded.n, grounded.counts) == (714, {"scored": 713, "skipped": 1})
    assert (grounded.method, found.metrics["agrees"].method) == ("bootstrap", "Wilson")
    assert grounded.mean == pytest.approx(0.927, abs=0.005)
    assert grounded.interval is not None
    assert grounded.interval.low < (grounded.mean or 0) < grounded.interval.high
    assert grounded.interval.margin < 0.03


def test_people_find_supported_what_overlaps_more(judged: list[tuple[str, str, bool, Score]]) -> None:
    groups = run_at(judged, 0.5).summary(by="expected")
    assert {name: found.calls for name, found in groups.items()} == {"true": 531, "false": 183}
    supported, made_up = (groups[name].metrics["overlap_groundedness"].interval for name in ("true", "false"))
    assert supported is not None
    assert made_up is not None
    assert supported.low > made_up.high


def test_two_thresholds_compared(judged: list[tuple[str, str, bool, Score]]) -> None:
    """0.9 agrees with people more often than 0.6, by more than noise; 0.9 and 0.85 cannot be told apart."""
    far = run_at(judged, 0.9).compare(run_at(judged, 0.6))
    agrees = far.metrics["agrees"]
    assert (agrees.pairs, agrees.neither, agrees.improved, agrees.regressed) == (713, 1, 74, 44)
    assert agrees.statement == "better, more than noise"
    assert agrees.p == pytest.approx(0.0074, abs=0.0005)
    assert agrees.interval == pytest.approx((0.012, 0.072), abs=0.002)
    assert (len(far.improved), len(far.regressed)) == (74, 44)
    assert far.metrics["overlap_groundedness"].statement == "no difference"
    near = run_at(judged, 0.9).compare(run_at(judged, 0.85)).metrics["agrees"]
    assert (near.improved, near.regressed, near.statement) == (20, 21, "a difference within noise")


def test_all_files_hold_all_sentences(judged: list[tuple[str, str, bool, Score]], tmp_path: Path) -> None:
    results = run_at(judged, 0.6)
    results.to_html(tmp_path / "qags.html", baseline=run_at(judged, 0.9))
    assert (tmp_path / "qags.html").stat().st_size < 2_000_000
    assert len(json.loads(results.to_json() or "")["items"]) == 714
    assert (results.to_junit() or "").count("<testcase ") == 714
