"""Length, personal data, sentiment, and what all built-in metrics have in common."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekeeper import metrics
from tracekeeper.judging import RecordView, metric, select
from tracekeeper.metrics import sentiment
from tracekeeper.metrics.pii_patterns import KINDS, iban, luhn
from tracekeeper.types import MetricError, MissingExtraError, ScoreStatus
from tracekeeper.types.sentences import sentences

SOURCE = Path(__file__).parents[3] / "src"


class TestLength:
    def test_units(self) -> None:
        assert metrics.Length()("mild 天气") == 7
        assert metrics.Length("words")("mild 天气") == 3
        assert metrics.Length("sentences")("Mild. 天气很好。Wet!") == 3

    def test_bounds_make_it_a_bool(self) -> None:
        judge = metrics.Length("words", min=2, max=3)
        assert judge("one") == (False, "1 word, fewer than 2")
        assert judge("one two") == (True, "2 words")
        assert judge("a b c d") == (False, "4 words, more than 3")

    @pytest.mark.parametrize(
        "wrong", [{"unit": "lines"}, {"min": -1}, {"max": 1.5}, {"max": True}, {"min": 2, "max": 1}]
    )
    def test_what_cannot_be(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(MetricError, match="Length"):
            metrics.Length(**wrong)


FOUND = {
    "email": ["jane.doe+x@example.co.uk", "用户@example.com", "a@b.io."],
    "phone": [
        "+353 1 234 5678",
        "+1 (415) 555-2671",
        "(415) 555-2671",
        "415-555-2671",
        "13812345678",
        "0049 30 901820",
    ],
    "credit_card": ["4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "4111 1111 1111 1111 12"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "NL91 ABNA 0417 1643 00 CODE"],
    "us_ssn": ["123-45-6789"],
    "cn_id": ["11010519491231002X"],
    "ip_address": ["192.168.0.1", "2001:db8::ff00:42:8329", "fe80::1", "2001:0db8:0000:0000:0000:ff00:0042:8329"],
    "api_key": [
        "sk-proj-" + "a1B2" * 8,
        "AKIA" + "ABCDEFGH23456789",
        "ghp_" + "a1B2" * 9,
        "xoxb-1234567890-abcdef",
        "AIza" + "a" * 35,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4",
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
}
NOT_FOUND = [
    "call me at 5 or on 2024-01-15 12:30:45",
    "4111 1111 1111 1112",
    "0000 0000 0000 0000",
    "DE88370400440532013000",
    "000-12-3456 and 666-12-3456 and 123-00-4567",
    "999.1.1.1 and 127.0.0.1 and ::1",
    "std::vector<int> x[10::20] A::B 12:30:45",
    "name@ and @name and a@b",
    "110105194912310021",
    "version 1.2.3, order 12345, 3.14159265358979",
    "sk-short and task-force-one-two-three-four",
    "天气很好，温度20度。",
]


class TestPii:
    def test_every_kind_has_an_example_here(self) -> None:
        assert set(FOUND) == set(KINDS)

    @pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
    def test_it_is_found_once_and_never_repeated(self, kind: str, text: str) -> None:
        for around in ("{}", "It is {}", "Write ({}), please.", "请联系 {} 谢谢"):
            count, reason = metrics.Pii()(around.format(text))
            assert (count, reason) == (1, f"found: 1 {kind}"), around
            assert text not in reason

    @pytest.mark.parametrize("text", NOT_FOUND)
    def test_what_only_looks_like_it(self, text: str) -> None:
        assert metrics.Pii()(text) == (0, "none found")

    def test_only_the_kinds_that_are_asked_for(self) -> None:
        text = "jane@example.com 192.168.0.1"
        assert metrics.Pii(kinds=["email"])(text) == (1, "found: 1 email")
        assert metrics.Pii(result="clean")(text) == (False, "found: 1 email, 1 ip_address")
        assert metrics.Pii(result="clean")("nothing") == (True, "none found")

    def test_it_looks_into_every_field(self) -> None:
        assert metrics.Pii()({"answer": "ok", "trail": [{"to": "jane@example.com"}]})[0] == 1

    def test_of_the_input(self) -> None:
        made = metrics.Pii().on(output=select.input())
        assert made.bind(RecordView(input={"q": "jane@example.com"}, output="ok"))()[0] == 1

    @pytest.mark.parametrize("wrong", [{"kinds": ["emial"]}, {"kinds": []}, {"result": "yes"}])
    def test_what_cannot_be(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(MetricError, match="Pii"):
            metrics.Pii(**wrong)

    def test_check_digits(self) -> None:
        assert luhn("79927398713")
        assert not luhn("79927398710")
        assert iban("FR14 2004 1010 0505 0001 3M02 606")
        assert not iban("FR14")

    @settings(deadline=None)
    @given(st.text())
    def test_any_text(self, text: str) -> None:
        count, _ = metrics.Pii()(text)
        assert count >= 0


class TestSentiment:
    def test_its_sign(self) -> None:
        pytest.importorskip("vaderSentiment")
        judge = metrics.Sentiment()
        assert judge("This is wonderful!")[0] > 0.5
        assert judge("This is horrible.")[0] < -0.5
        assert judge("").status == "skipped"
        assert judge.range == (-1, 1)

    @settings(deadline=None)
    @given(st.text())
    def test_any_text_is_within_the_range(self, text: str) -> None:
        pytest.importorskip("vaderSentiment")
        [(_, score)] = metrics.Sentiment().scores(metrics.Sentiment()(text))
        assert score.status in (ScoreStatus.SCORED, ScoreStatus.SKIPPED)

    def test_without_the_package_it_says_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sentiment, "find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match=r"pip install 'tracekeeper\[sentiment\]'"):
            metrics.Sentiment()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Dr. Smith lives in the U.S. and pays 3.5 dollars. Really?",
            ["Dr. Smith lives in the U.S. and pays 3.5 dollars.", "Really?"],
        ),
        ("He moved to the U.S. They stayed.", ["He moved to the U.S.", "They stayed."]),
        ("J. R. R. Tolkien wrote it, e.g. here. So.", ["J. R. R. Tolkien wrote it, e.g. here.", "So."]),
        ("是的。真的！？走吧", ["是的。", "真的！？", "走吧"]),
        ("「你好。」他说。", ["「你好。」", "他说。"]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("1. One\n2. Two\n- three\n\nFour\nfive", ["1. One", "2. Two", "- three", "Four\nfive"]),
        ("Wait... what?! No", ["Wait...", "what?!", "No"]),
        ("see example.com/a.b for 1.2.3", ["see example.com/a.b for 1.2.3"]),
        (" \n ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@settings(deadline=None)
@given(st.text(st.sampled_from("ab1 .!?。！\n-\"'（）e.g.Dr")))
def test_sentences_lose_nothing(text: str) -> None:
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


class TestAllOfThem:
    def test_they_take_the_options_of_every_metric(self) -> None:
        for name in metrics.built_in_names().values():
            made = getattr(metrics, name)(name="mine", timeout=3, mode="inline", version="9")
            assert (made.name, made.timeout, made.mode) == ("mine", 3, "inline")
            assert made.version.startswith("9")
            assert made.replace(retries=2).import_path == f"tracekeeper.metrics:{name}"
            assert made.__doc__

    def test_a_typo_in_an_option_is_named(self) -> None:
        with pytest.raises(MetricError, match="did you mean ignore_case"):
            metrics.ExactMatch(ignore_cases=True)  # type: ignore[call-arg]
        with pytest.raises(MetricError, match="did you mean timeout"):
            metrics.ExactMatch(timeot=1)  # type: ignore[call-arg]
        with pytest.raises(MetricError, match="timeout=-1"):
            metrics.ExactMatch(timeout=-1)

    def test_versions_follow_the_parameters(self) -> None:
        assert metrics.OverlapGroundedness().version == metrics.OverlapGroundedness(timeout=3).version
        assert metrics.OverlapGroundedness().version != metrics.OverlapGroundedness(threshold=0.5).version

    def test_they_bind_on_a_question_answering_app(self) -> None:
        view = RecordView(
            input={"question": "Irish weather?", "k": 3},
            output={"answer": "Irish weather is mild.", "sources": [1]},
            context=["Irish weather is mild."],
            expected="Irish weather is mild.",
        )
        for name in ("exact_match", "token_f1", "contains", "overlap_groundedness", "overlap_context_relevance"):
            made = metrics.resolve(name)
            made.check({"question", "k"}, None)
            [(_, score)] = made.scores(made.bind(view)())
            assert score.value == 1, name

    @pytest.mark.parametrize("name", ["Groundedness", "ContextRelevance", "AnswerRelevance"])
    def test_the_names_kept_for_language_models_say_what_to_use(self, name: str) -> None:
        with pytest.raises(AttributeError, match=f"tk.metrics.Overlap{name}"):
            getattr(metrics, name)

    def test_a_wrong_name_is_corrected(self) -> None:
        with pytest.raises(AttributeError, match=r"did you mean tk\.metrics\.ExactMatch"):
            metrics.ExacMatch  # noqa: B018

    def test_the_package_loads_no_metric_until_asked(self) -> None:
        program = (
            "import sys; import tracekeeper.metrics as m; before = set(sys.modules); m.ExactMatch\n"
            "loaded = {name for name in before if name.startswith('tracekeeper.')}\n"
            "print(sorted(loaded), 'tracekeeper.metrics.matching' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": str(SOURCE), "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout == "['tracekeeper.metrics'] True\n"

    def test_a_metric_of_a_built_in_keeps_its_class(self) -> None:
        assert type(metric(metrics.ExactMatch(), timeout=3)) is metrics.ExactMatch


LONG: dict[str, str] = {
    "prose": "The weather in Ireland is mild, 3.5 degrees but wet. " * 19_000,
    "one word": "a" * 1_000_000,
    "digits": "1 " * 100_000,
    "marks": ".)" * 100_000,
    "chinese": "天气很好。" * 40_000,
    "addresses": "a@b." * 50_000,
    "keys": "eyJaaaaaaaa." * 20_000,
    "numbers": "DE89 " * 40_000,
    "colons": "ab:" * 70_000,
}
"""A megabyte of prose, and the shapes that patterns stumble over."""
JUDGES: dict[str, Callable[[str], Any]] = {
    "exact": lambda text: metrics.ExactMatch()(text, text),
    "f1": lambda text: metrics.TokenF1()(text, text),
    "groundedness": lambda text: metrics.OverlapGroundedness()(text, [text]),
    "relevance": lambda text: metrics.OverlapContextRelevance()(text, [text]),
    "pii": lambda text: metrics.Pii()(text),
    "sentences": lambda text: metrics.Length("sentences")(text),
}


@pytest.mark.slow
@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_long_text_of_any_shape_is_judged_in_linear_time(text: str) -> None:
    for name, judge in JUDGES.items():
        began = time.process_time()
        judge(text)
        assert time.process_time() - began < 15, name  # well under 1 s when measured; quadratic ones take hours
