"""Whatever a metric returns becomes scores; nothing becomes a NaN, and nothing raises."""

from __future__ import annotations

import asyncio
import math
import warnings
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracekeeper.journal.frames import ScoreFrame, encode
from tracekeeper.judging import metric
from tracekeeper.types import Score, ScoreStatus

JUDGE = metric(lambda output: output, name="m")


class Verdict(Enum):
    GOOD = "good"
    NOTHING = object()


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    YES = "yes"


class Scalar:
    """Shaped like a numpy or torch scalar."""

    def __init__(self, value: Any, shape: tuple[int, ...] = ()) -> None:
        self.value, self.shape = value, shape

    def item(self) -> Any:
        return self.value


def outcome(result: Any, made: Any = JUDGE) -> Score:
    [(name, score)] = made.scores(result)
    assert name == "m"
    return score


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (0.5, 0.5),
        (3, 3.0),
        (True, True),
        (False, False),
        ("good", "good"),
        (Decimal("0.25"), 0.25),
        (Fraction(1, 4), 0.25),
        (Verdict.GOOD, "good"),
        (Verdict.NOTHING, "NOTHING"),
        (Level.HIGH, 3.0),
        (Word.YES, "yes"),
        (Scalar(0.5), 0.5),
        (Scalar(True), True),
        (Score(0.5), 0.5),
        (Score("good"), "good"),
        (Score(Scalar(2)), 2.0),  # type: ignore[arg-type]
        ((0.5, "why"), 0.5),
    ],
)
def test_a_value(result: Any, value: Any) -> None:
    score = outcome(result)
    assert (score.status, score.value) == (ScoreStatus.SCORED, value)
    assert type(score.value) is type(value)


@pytest.mark.parametrize(
    ("result", "status", "says"),
    [
        (None, "skipped", "the metric returned None"),
        ((None, "no idea"), "skipped", "no idea"),
        ("", "skipped", "empty label"),
        (Score(None), "skipped", "returned no value"),
        (Score(None, reason="off topic", status=ScoreStatus.SKIPPED), "skipped", "off topic"),
        (Score(None, status="skipped"), "skipped", "is skipped"),  # type: ignore[arg-type]
        (float("nan"), "failed", "the metric returned nan, which is not a number"),
        (float("-inf"), "failed", "the metric returned -inf"),
        ((float("nan"), "because"), "failed", "not a number (because)"),
        (Score(float("nan"), reason="r"), "failed", "not a number (r)"),
        (Decimal("sNaN"), "failed", "not a number"),
        (10**400, "failed", "too large"),
        (1j, "failed", "complex"),
        (Scalar(1, (3,)), "failed", "of shape (3,)"),
        ([0.5], "failed", "the metric returned a list; allowed: a number"),
        ({"a": 1}, "failed", "declare names=[…]"),
        (b"x", "failed", "bytes"),
        (object(), "failed", "an object"),
        (ValueError("x"), "failed", "a ValueError"),
        ((0.5, 0.7), "failed", "a tuple whose second part is a float"),
        (((1, "a"), "b"), "failed", "a tuple within a tuple"),
        ((1, 2, 3), "failed", "a tuple"),
        ((part for part in "ab"), "failed", "a generator"),
        (Score(0.5, status=ScoreStatus.PENDING), "failed", "a Score that is pending"),
        (Score(0.5, status="great"), "failed", "unknown status"),  # type: ignore[arg-type]
        (Score([1]), "failed", "a list"),  # type: ignore[arg-type]
        (Score(Score(1)), "failed", "whose value is"),  # type: ignore[arg-type]
    ],
)
def test_no_value_has_a_status_and_a_reason(result: Any, status: str, says: str) -> None:
    score = outcome(result)
    assert score.status == status
    assert score.value is None
    assert says in (score.reason or "")


def test_reasons_metadata_and_cost_are_kept() -> None:
    score = outcome(Score(0.5, reason="r", cost=0.01, metadata={"a": 1}))
    assert (score.reason, score.cost, score.metadata) == ("r", 0.01, {"a": 1})
    assert outcome((0.5, {"reason": "r", "raw": 7})).metadata == {"reason": "r", "raw": 7}
    assert outcome((0.5, {"reason": "r"})).reason == "r"


def test_metadata_that_json_cannot_hold_is_kept_as_text() -> None:
    metadata = outcome(Score(0.5, metadata={"a": object(), "b": 1}, cost=float("nan"))).metadata
    assert metadata is not None
    assert metadata["b"] == "1"
    assert "object" in metadata["a"]


def test_a_coroutine_is_closed_and_named() -> None:
    async def late() -> int:
        return 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "a coroutine" in (outcome(late()).reason or "")


def test_a_long_label_is_cut_and_says_so() -> None:
    score = outcome("x" * 10_000)
    assert score.value == "x" * 500
    assert "500 of 10000" in (score.reason or "")


def test_text_that_no_encoder_takes_is_repaired() -> None:
    score = outcome(("\ud800", "\udfff"))
    encode(ScoreFrame(target="record", name="m", status="scored", label=str(score.value), reason=score.reason))


class TestRange:
    made = metric(lambda output: output, name="m", range=(0, 1))

    def test_inside(self) -> None:
        assert outcome(0.5, self.made).value == 0.5
        assert outcome(1, self.made).value == 1.0

    def test_outside_fails_and_keeps_what_was_returned(self) -> None:
        score = outcome((7, "very good"), self.made)
        assert (score.status, score.value) == (ScoreStatus.FAILED, None)
        assert score.reason == "the metric returned 7, outside its declared range 0 to 1 (very good)"
        assert score.metadata == {"returned": 7.0}

    def test_rounding_is_forgiven(self) -> None:
        assert outcome(1.0000000000000002, self.made).value == 1.0
        assert outcome(-1e-17, self.made).value == 0.0

    def test_an_open_end(self) -> None:
        made = metric(lambda output: output, name="m", range=(0, None))
        assert outcome(10**9, made).value == 1e9
        assert "of at least 0" in (outcome(-1, made).reason or "")

    def test_bools_and_labels_have_no_range(self) -> None:
        made = metric(lambda output: output, name="m", range=(5, 6))
        assert outcome(True, made).value is True
        assert outcome("a", made).value == "a"


class TestNames:
    made = metric(lambda output: output, name="m", names=["a", "b"])

    def test_each_declared_name_has_a_score(self) -> None:
        assert [(name, score.value) for name, score in self.made.scores({"a": 1, "b": (0.5, "r")})] == [
            ("m.a", 1.0),
            ("m.b", 0.5),
        ]

    def test_a_missing_one_is_skipped_and_an_undeclared_one_fails(self) -> None:
        scores = dict(self.made.scores({"a": 1, "c": 2}))
        assert scores["m.b"].status == "skipped"
        assert scores["m"].status == "failed"
        assert scores["m"].reason == "the metric returned undeclared names: 'c'; declared: a, b"

    @pytest.mark.parametrize(("result", "status"), [(None, "skipped"), (0.5, "failed"), ([], "failed")])
    def test_no_mapping_settles_all_of_them(self, result: Any, status: str) -> None:
        assert [(name, score.status) for name, score in self.made.scores(result)] == [("m.a", status), ("m.b", status)]

    def test_one_bad_value_does_not_take_the_others_along(self) -> None:
        scores = dict(self.made.scores({"a": float("nan"), "b": 1}))
        assert (scores["m.a"].status, scores["m.b"].value) == ("failed", 1.0)


class Evil:
    """Everything a reader may do to it raises, the way user code can."""

    def __init__(self, error: type[BaseException] = SystemExit) -> None:
        self.__dict__["error"] = error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)  # the test framework looks for these
        raise self.__dict__["error"]

    def __float__(self) -> float:
        raise self.__dict__["error"]

    def __str__(self) -> str:
        raise self.__dict__["error"]


class EvilRepr(Evil):
    def __repr__(self) -> str:
        raise self.__dict__["error"]

    @property
    def __class__(self) -> Any:
        raise self.__dict__["error"]


class EvilNumber(float):
    def __float__(self) -> float:
        raise KeyboardInterrupt


class EvilText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise ValueError

    def __len__(self) -> int:
        raise ValueError


class EvilMapping(dict[str, Any]):
    def __iter__(self) -> Any:
        raise ValueError

    def keys(self) -> Any:
        raise ValueError


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize(
    "wrap", [lambda evil: evil, lambda evil: (0.5, evil), lambda evil: Score(evil), lambda evil: (evil, "")]
)
def test_an_object_whose_every_method_raises(error: type[BaseException], wrap: Any) -> None:
    assert outcome(wrap(EvilRepr(error))).status == "failed"


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.text(st.characters(categories=["Cs"]), max_size=3)
    | st.binary(max_size=5)
    | st.decimals()
    | st.complex_numbers()
    | st.sampled_from(
        [
            Evil(),
            EvilNumber(1),
            EvilText("a"),
            EvilMapping(a=1),
            object(),
            Verdict.NOTHING,
            Level.HIGH,
            Evil,
            Scalar(Evil()),
        ]
    )
    | st.builds(Scalar, st.floats() | st.text(), st.sampled_from([(), (1,)])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=3)
        | st.builds(
            Score,
            value=inner,
            reason=inner,
            status=inner | st.sampled_from(list(ScoreStatus)),
            metadata=inner,
            cost=inner,
            error=inner,
        )
    ),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@example(result=(None, ""), parts=None, bounds=None)
@example(result=(False, " "), parts=None, bounds=None)
@example(result=Score(float("nan"), reason=""), parts=None, bounds=None)
@given(result=_anything, parts=st.none() | st.just(["a", "b"]), bounds=st.none() | st.just((0, 1)))
def test_scores_is_total_and_every_score_is_whole(result: Any, parts: list[str] | None, bounds: Any) -> None:
    made = metric(lambda output: output, name="m", names=parts, range=bounds)
    scores = made.scores(result)
    assert set(made.names) <= {name for name, _ in scores}
    assert len({name for name, _ in scores}) == len(scores)
    for _, score in scores:
        assert score.status.final
        assert score.reason is None or score.reason.strip()
        if score.status is ScoreStatus.SCORED:
            assert type(score.value) in (bool, float, str)
            assert not isinstance(score.value, float) or math.isfinite(score.value)
        else:
            assert score.value is None
            assert score.reason
        for text in (score.reason, score.error, score.value if isinstance(score.value, str) else None):
            assert text is None or text.encode()


def test_scores_of_an_awaitable_on_a_loop() -> None:
    async def main() -> Score:
        return outcome(asyncio.get_running_loop().create_future())

    assert "Future" in (asyncio.run(main()).reason or "")
