"""The overlap metrics: their formulas on small cases, their worth on human labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekeeper import metrics
from tracekeeper.types import MetricError, Score, ScoreStatus

QAGS = Path(__file__).parents[3] / ".." / "shared" / "data" / "qags" / "mturk_cnndm.jsonl"


def value(result: Any) -> float:
    assert isinstance(result, tuple), result
    return float(result[0])


class TestGroundedness:
    judge = metrics.OverlapGroundedness()

    def test_a_copied_sentence_is_supported(self) -> None:
        assert self.judge("Ireland has a mild climate.", ["In short, Ireland has a mild climate all year."]) == (
            1.0,
            "every sentence is found in the documents",
        )

    def test_the_formula(self) -> None:
        # Content words: snow, common, ireland: two found; pairs (snow, common), (common, ireland): none found.
        assert value(self.judge("Snow is common in Ireland.", ["Ireland is green. Snow is rare."])) == pytest.approx(
            1 / 3
        )

    def test_words_put_together_in_another_way_are_less_supported(self) -> None:
        documents = ["Anna met Tom in Rome. Peter met Mary in Oslo."]
        assert value(self.judge("Anna met Mary in Rome.", documents)) < value(
            self.judge("Anna met Tom in Rome.", documents)
        )

    def test_the_reason_names_the_least_supported_sentence(self) -> None:
        _, reason = self.judge("It rains in Ireland. Dragons live there.", ["It often rains in Ireland."])
        assert reason == "least supported of 2 sentences (0.00): Dragons live there."

    def test_a_threshold_counts_sentences(self) -> None:
        judge = metrics.OverlapGroundedness(threshold=0.5)
        assert value(judge("It rains in Ireland. Dragons live there.", ["It rains in Ireland."])) == 0.5
        for wrong in (0, -1, 1.5, float("nan"), True, "0.5"):
            with pytest.raises(MetricError, match="threshold"):
                metrics.OverlapGroundedness(threshold=wrong)  # type: ignore[arg-type]

    def test_chinese_and_japanese(self) -> None:
        documents = ["爱尔兰的气候温和湿润，冬天很少下雪。", "東京の夏は蒸し暑い。"]
        assert value(self.judge("爱尔兰的气候温和。", documents)) == 1
        assert value(self.judge("東京の夏は蒸し暑い。", documents)) == 1
        assert value(self.judge("巴黎铁塔非常高大。", documents)) < 0.2
        assert 0.4 < value(self.judge("爱尔兰的气候温和。巴黎铁塔非常高大。", documents)) < 0.6

    def test_documents_of_every_shape(self) -> None:
        for documents in (
            ["mild climate"],
            [{"content": "mild climate"}],
            [{"page_content": "mild climate"}],
            "mild climate",
        ):
            assert value(self.judge({"answer": "Mild climate."}, documents)) == 1

    @pytest.mark.parametrize(
        ("output", "context"), [("Mild.", []), ("Mild.", [""]), ("", ["a b"]), ("It is.", ["a b"])]
    )
    def test_nothing_to_judge_is_skipped_with_a_reason(self, output: str, context: list[str]) -> None:
        result = self.judge(output, context)
        assert isinstance(result, Score)
        assert result.status is ScoreStatus.SKIPPED
        assert result.reason


class TestContextRelevance:
    def test_the_mean_and_the_best(self) -> None:
        documents = ["weather in Ireland", "weather in Spain", "cooking rice"]
        question = "What is the weather in Ireland like?"
        # Content words: weather, ireland, like.
        assert value(metrics.OverlapContextRelevance()(question, documents)) == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
        assert value(metrics.OverlapContextRelevance(aggregate="best")(question, documents)) == pytest.approx(2 / 3)

    def test_it_names_the_least_relevant(self) -> None:
        _, reason = metrics.OverlapContextRelevance()("Irish weather", ["Irish weather", "cooking rice"])
        assert reason == "the least relevant of 2 documents is number 2 (0.00): cooking rice"

    def test_several_arguments_have_a_question(self) -> None:
        assert value(metrics.OverlapContextRelevance()({"question": "Irish weather", "k": 3}, ["Irish weather"])) == 1

    def test_an_unknown_aggregate(self) -> None:
        with pytest.raises(MetricError, match="'mean' or 'best'"):
            metrics.OverlapContextRelevance(aggregate="median")  # type: ignore[arg-type]


def test_answer_relevance() -> None:
    judge = metrics.OverlapAnswerRelevance()
    assert judge("What is the weather in Ireland?", "The weather in Ireland is mild.")[0] == 1
    assert judge("爱尔兰的天气如何？", "爱尔兰的天气温和。")[0] == pytest.approx(5 / 7)
    assert judge("weather in Ireland?", "") == (0.0, "not taken up: weather, ireland")
    assert judge("what is it?", "mild").status == "skipped"


@settings(deadline=None)
@given(output=st.text(), context=st.lists(st.text(), max_size=3), question=st.text())
def test_any_text_gives_a_share_or_a_reason(output: str, context: list[str], question: str) -> None:
    for made, arguments in (
        (metrics.OverlapGroundedness(), (output, context)),
        (metrics.OverlapGroundedness(threshold=0.5), (output, context)),
        (metrics.OverlapContextRelevance(), (question, context)),
        (metrics.OverlapContextRelevance(aggregate="best"), (question, context)),
        (metrics.OverlapAnswerRelevance(), (question, output)),
    ):
        first, again = made(*arguments), made(*arguments)
        assert first == again
        [(_, score)] = made.scores(first)
        if score.status is ScoreStatus.SCORED:
            assert isinstance(score.value, float)
            assert 0 <= score.value <= 1
        else:
            assert score.status is ScoreStatus.SKIPPED


@settings(deadline=None)
@given(text=st.text(min_size=1))
def test_a_text_is_grounded_in_itself(text: str) -> None:
    result = metrics.OverlapGroundedness()(text, [text])
    assert isinstance(result, Score) or result[0] == 1


def test_it_tells_supported_sentences_from_made_up_ones_as_people_do() -> None:
    if not QAGS.exists():
        pytest.skip(f"human labels are not here: {QAGS}")
    judge = metrics.OverlapGroundedness()
    supported, made_up = [], []
    for line in QAGS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for sentence in row["summary_sentences"]:
            votes = [response["response"] == "yes" for response in sentence["responses"]]
            result = judge(sentence["sentence"], [row["article"]])
            if isinstance(result, tuple):
                (supported if sum(votes) * 2 > len(votes) else made_up).append(result[0])
    assert (len(supported), len(made_up)) == (530, 183)
    wins = sum((high > low) + (high == low) / 2 for high in supported for low in made_up)
    assert wins / (len(supported) * len(made_up)) == pytest.approx(0.847, abs=0.005)
