"""Real data end to end: 4,507 questions and answers are imported by the command, and every one gets its score.

The data lies beside the checkout (``../shared/data``); where it does not, the test says so and is skipped.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import programs

import tracekeeper as tk

HALUEVAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "halueval" / "general_data.json"


def command(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tracekeeper", *arguments],
        cwd=directory,
        env=programs.environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.counts
@pytest.mark.skipif(not HALUEVAL.exists(), reason="the HaluEval data is not beside this checkout")
def test_every_record_of_halueval_is_imported_and_scored(tmp_path: Path) -> None:
    imported = command(tmp_path, "import", str(HALUEVAL), "--input", "user_query", "--output", "chatgpt_response")
    assert imported.returncode == 0, imported.stderr
    scored = command(tmp_path, "score", "--metric", "OverlapAnswerRelevance", "--metric", "Length")
    print(scored.stdout)
    assert scored.returncode == 0, scored.stderr
    status = json.loads(command(tmp_path, "status", "--json").stdout)
    assert '"spans": 4507' in json.dumps(status)
    [row] = json.loads(command(tmp_path, "leaderboard", "--json").stdout)
    assert row["records"] == row["length.n"] == row["length.scored"] == row["overlap_answer_relevance.n"] == 4507
    assert row["overlap_answer_relevance.scored"] + row["overlap_answer_relevance.skipped"] == 4507


QAGS = HALUEVAL.parents[1] / "qags" / "mturk_cnndm.jsonl"


@pytest.mark.counts
@pytest.mark.skipif(not QAGS.exists(), reason="the HaluEval and QAGS data are not beside this checkout")
def test_halueval_and_qags_are_evaluated_with_people_s_labels_as_expected(keeper: object) -> None:
    answers = [json.loads(line) for line in HALUEVAL.read_text(encoding="utf-8").splitlines()]
    # (Its own numbers are no ids: some appear twice.)
    items = [
        {"user_query": one["user_query"], "given": one["chatgpt_response"], "expected": one["hallucination"]}
        for one in answers
    ]

    def answer(given: str) -> str:
        return given

    def says_yes_of_long_answers(output: str, expected: str) -> bool:
        return (len(output) > 400) == (expected == "yes")

    metrics = [says_yes_of_long_answers, "overlap_answer_relevance", "length"]
    halueval = tk.evaluate(items, answer, metrics=metrics, name="halueval", concurrency=64)
    assert halueval.complete
    assert [item.output for item in halueval] == [one["chatgpt_response"] for one in answers]
    for metric in halueval.summary().metrics.values():
        assert sum(metric.counts.values()) == 4507
    assert halueval.summary().metrics["says_yes_of_long_answers"].counts == {"scored": 4507}
    halueval.print()

    sentences = [
        {
            "article": row["article"],
            "sentence": sentence["sentence"],
            "expected": sum(vote["response"] == "yes" for vote in sentence["responses"]) >= 2,
        }
        for row in (json.loads(line) for line in QAGS.read_text(encoding="utf-8").splitlines())
        for sentence in row["summary_sentences"]
    ]
    assert len(sentences) == 714

    @tk.trace(kind="retriever")
    def look_up(article: str) -> list[str]:
        return [article]

    async def supported(article: str, sentence: str) -> str:
        look_up(article)
        return sentence

    grounded = tk.metrics.OverlapGroundedness()

    def score_of(output: str, context: list[str]) -> float:
        [(_, score)] = grounded.scores(grounded.function(output, context))
        return score.value if isinstance(score.value, float) else 0.0

    def agrees(output: str, article: str, expected: bool) -> bool:
        return (score_of(output, [article]) >= 0.9) == expected

    qags = tk.evaluate(sentences, supported, metrics=[agrees, "overlap_groundedness"], name="qags", concurrency=64)
    assert qags.complete
    assert [item.output for item in qags] == [sentence["sentence"] for sentence in sentences]
    # (One sentence is nothing but punctuation: the metric declines, and so says its score.)
    assert qags.summary().metrics["overlap_groundedness"].counts == {"scored": 713, "skipped": 1}
    assert qags.summary().metrics["agrees"].counts == {"scored": 714}
    qags.print()
    again = tk.Experiment.load("qags")
    assert again.summary().metrics["agrees"].mean == qags.summary().metrics["agrees"].mean
