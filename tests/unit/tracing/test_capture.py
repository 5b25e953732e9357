"""Capture is total, masked, bounded, and leaves objects as they were."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import io
import json
import math
import os
import pathlib
import threading
import time
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeeper.configuration.settings import MASKED_KEYS
from tracekeeper.tracing import capture, trouble
from tracekeeper.tracing.simplify import SLACK

LIMIT = 1_000_000


def encode(value: Any, limit: int = LIMIT, mask: Callable[[Any], Any] | None = None) -> tuple[bytes, int]:
    data, size = capture.encode(value, limit=limit, mask_keys=MASKED_KEYS, mask=mask)
    json.loads(data)
    return data, size


def plain(value: Any, limit: int = LIMIT, mask: Callable[[Any], Any] | None = None) -> Any:
    return capture.decode(encode(value, limit, mask)[0])


@dataclasses.dataclass
class Question:
    text: str
    api_key: str = "sk-1"


class Answer(msgspec.Struct):
    text: str
    password: str = "pw"


class Point(NamedTuple):
    x: int
    token: str


class Colour(enum.Enum):
    RED = "red"


class Named(str):
    def __str__(self) -> str:
        raise RuntimeError("no")


class Pydantic:
    """Looks like a pydantic model: nothing of ours imports it."""

    __pydantic_fields__ = types.MappingProxyType({"text": None, "secret": None})

    def __init__(self) -> None:
        self.text = "hi"
        self.secret = "s"

    __pydantic_extra__ = None


class Public:
    def __init__(self) -> None:
        self.text = "hello"
        self._token = "hidden"


class Hostile:
    """Everything about it raises."""

    def __repr__(self) -> str:
        raise SystemExit("repr")

    def __getattr__(self, name: str) -> Any:
        raise SystemExit(name)

    @property
    def __class__(self) -> Any:
        raise ValueError("class")

    def __len__(self) -> int:
        raise ValueError("len")

    def __iter__(self) -> Any:
        raise GeneratorExit("iter")

    def __eq__(self, other: object) -> bool:
        raise ValueError("eq")

    __hash__ = None  # type: ignore[assignment]


class HostileDict(dict[str, Any]):
    def items(self) -> Any:
        raise SystemExit

    def __len__(self) -> int:
        raise SystemExit

    def __iter__(self) -> Any:
        raise SystemExit


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            {"q": "hi", "n": 3, "x": 1.5, "no": None, "yes": True},
            {"q": "hi", "n": 3, "x": 1.5, "no": None, "yes": True},
        ),
        (float("nan"), "NaN"),
        ([float("inf"), 1.0], ["Infinity", 1.0]),
        ({"x": [float("-inf")] * 40}, {"x": ["-Infinity"] * 40}),
        ("\ud800abc", "\\ud800abc"),
        ({"\ud800": 1}, {"\\ud800": 1}),
        (["\ud800"] * 40, ["\\ud800"] * 40),
        (2**70, 2**70),
        ({"a": [2**70] * 40}, {"a": [2**70] * 40}),
        (-(2**64), -(2**64)),
        ({2: 2, None: 3, True: 4, (1, 2): 5, b"x": 6}, {"2": 2, "null": 3, "true": 4, "[1, 2]": 5, "x": 6}),
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (frozenset({3}), [3]),
        (collections.deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (Question("why"), {"text": "why", "api_key": "***"}),
        (Answer("so"), {"text": "so", "password": "***"}),
        (Point(1, "t"), {"x": 1, "token": "t"}),
        (Pydantic(), {"text": "hi", "secret": "***"}),
        (Colour.RED, "red"),
        (datetime.datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.timedelta(seconds=90), "0:01:30"),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (b"text", "text"),
        (b"\xff\x00", "base64:/wA="),
        (bytearray(b"text"), "text"),
        (1 + 2j, "(1+2j)"),
        (Named("x"), "x"),
        (ValueError("no"), {"type": "builtins.ValueError", "message": "no"}),
        (len, "<builtin_function_or_method builtins.len>"),
        (Question, f"<class {__name__}.Question>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_value_has_a_plain_form(value: Any, expected: Any) -> None:
    assert plain(value) == expected
    assert plain({"inside": [value]}) == {"inside": [expected]}


def test_an_objects_public_attributes_are_shown_and_its_private_ones_not() -> None:
    assert plain(Public()) == {"__class__": f"{__name__}.Public", "text": "hello"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hostile(),
        lambda: [Hostile()],
        lambda: {"a": Hostile()},
        lambda: HostileDict(a=1),
        lambda: {Question: 1},
    ],
)
def test_hostile_objects_are_survived(make: Callable[[], Any]) -> None:
    encode(make())
    assert trouble.counts() == {}


def test_a_field_that_raises_costs_only_itself() -> None:
    @dataclasses.dataclass
    class Half:
        good: int

        @property
        def bad(self) -> int:
            raise ValueError

    half = Half(1)
    Half.__dataclass_fields__["bad"] = Half.__dataclass_fields__["good"]
    assert plain(half) == {"good": 1, "bad": "<unreadable: ValueError>"}


def test_ctrl_c_during_capture_is_the_programs() -> None:
    class Interrupting:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode([Interrupting()])


def test_cycles_end() -> None:
    cycle: dict[str, Any] = {}
    cycle["list"] = [cycle]
    assert plain(cycle) == {"list": ["<cycle>"]}


def test_depth_is_bounded() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    data, size = encode(deep)
    assert b"nested deeper than 40 levels" in data
    assert size > 0
    while deep:  # unmade from the outside: the interpreter's own recursion would not end well
        deep = deep[0]


def test_generators_files_and_locks_are_named_and_not_touched() -> None:
    def count() -> Iterator[int]:
        yield from (1, 2)

    numbers = count()
    file = io.StringIO("text")
    assert "count" in plain(numbers)
    assert plain(file)
    assert "lock" in plain(threading.Lock())
    assert list(numbers) == [1, 2]
    assert file.read() == "text"


def test_an_environment_is_not_captured() -> None:
    assert plain(os.environ) == "<os.environ>"


def test_numpy_and_pandas_are_known_by_their_types() -> None:
    numpy = pytest.importorskip("numpy")
    pandas = pytest.importorskip("pandas")
    assert plain(numpy.float32(1.5)) == 1.5
    assert plain(numpy.float64("nan")) == "NaN"
    assert plain(numpy.array([1, 2])) == [1, 2]
    assert plain(numpy.array(5)) == 5
    shown = plain(numpy.zeros((1000, 1000)))
    assert (shown["dtype"], shown["shape"]) == ("float64", [1000, 1000])
    assert encode(numpy.zeros((1000, 1000)))[1] >= 8_000_000
    assert plain(pandas.DataFrame({"a": [1, 2], "b": ["x", None]}))[0] == {"a": 1, "b": "x"}
    assert plain(pandas.Series([1.0, float("nan")])) == [1.0, "NaN"]


# Limits.


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (lambda: [0] * 50_000_000, 100_000_000),
        (lambda: "x" * 100_000_000, 100_000_000),
        (lambda: {"text": "x" * 100_000_000}, 100_000_000),
        (lambda: b"x" * 100_000_000, 100_000_000),
        (lambda: [1.5] * 5_000_000, 20_000_000),
        (lambda: ["text\n"] * 3_000_000, 18_000_000),
        (lambda: range(10**12), 10**12),
        (lambda: {n: n for n in range(1_000_000)}, 5_000_000),
    ],
    ids=["ints", "str", "str in dict", "bytes", "floats", "texts", "range", "dict"],
)
def test_a_huge_value_costs_what_its_beginning_costs(make: Callable[[], Any], least: int) -> None:
    value = make()
    began = time.perf_counter()
    data, size = encode(value)
    seconds = time.perf_counter() - began
    assert len(data) <= LIMIT + SLACK
    assert size >= least
    assert b"[cut: " in data[-80:]
    assert seconds < 1.5  # measured: 0.001 to 0.15


def test_the_full_size_of_a_text_is_exact() -> None:
    for text in ("x" * 2_000_000, "é" * 1_500_000, 'line "one"\n' * 200_000):
        data, size = encode(text)
        assert size == len(text.encode())
        assert f"… [cut: {len(text)} characters]".encode() in data[-60:]
        assert len(data) <= LIMIT + SLACK
    assert encode(b"x" * 2_000_000)[1] == 2_000_000


def test_what_fits_is_not_cut() -> None:
    assert encode("x" * 900_000)[1] == 0
    assert encode(["x" * 100] * 9_000)[1] == 0


@pytest.mark.parametrize("value", ["x" * 50, ["abc"] * 50, [1] * 50, {f"k{n}": n for n in range(50)}, {"a": "x" * 99}])
@pytest.mark.parametrize("limit", [0, 1, 20, 40])
def test_what_is_cut_is_still_json_and_says_so(value: Any, limit: int) -> None:
    data, size = encode(value, limit)
    assert size >= max(limit, 1)
    assert b"[cut: " in data
    assert len(data) <= limit + SLACK


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=30,
)


@pytest.mark.slow
@given(anything, st.integers(0, 400))
def test_any_value_becomes_json_within_its_limit(value: Any, limit: int) -> None:
    data, _ = encode(value, limit)
    assert len(data) <= max(limit, 16) + SLACK
    data.decode()


texts = st.text(st.characters(exclude_categories=("Cs",)))
jsonable = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(texts, inner),
    max_leaves=60,
)  # fmt: skip


@pytest.mark.slow
@given(jsonable)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    data, size = capture.encode(value, limit=LIMIT, mask_keys=())
    assert size == 0
    assert capture.decode(data) == value
    # The fast way and the long way agree.
    assert capture.decode(capture.encode(value, limit=LIMIT, mask_keys=(), mask=lambda plain: plain)[0]) == value


def test_values_are_those_of_the_moment_of_the_call() -> None:
    value = {"list": [1]}
    data, _ = encode(value)
    value["list"].append(2)
    assert capture.decode(data) == {"list": [1]}


def test_a_dict_that_another_thread_changes_is_survived() -> None:
    shared: dict[str, int] = {}
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            shared[f"k{number % 500}"] = number
            shared.pop(f"k{(number * 7) % 500}", None)
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            encode({"shared": shared})
    finally:
        stop.set()
        thread.join()
    assert trouble.counts() == {}


# Masks.


@pytest.mark.parametrize(
    "value",
    [
        {"api_key": "sk-1"},
        {"API_KEY": "sk-1"},
        {"headers": {"Authorization": "sk-1"}},
        {"headers": [("Authorization", "sk-1")]},
        {"headers": [["x-api-key", "sk-1"]]},
        {"headers": [(b"authorization", b"sk-1")]},
        [{"deep": [{"Password": {"inner": "sk-1"}}]}],
        Question("q", "sk-1"),
        Answer("q", "sk-1"),
        {b"api_key": "sk-1"},
    ],
)
def test_values_under_secret_names_are_never_written(value: Any) -> None:
    data, _ = encode(value)
    assert b"sk-1" not in data
    assert b"***" in data


def test_names_are_compared_whole() -> None:
    assert plain({"total_tokens": 3, "secretary": "Ann"}) == {"total_tokens": 3, "secretary": "Ann"}


def test_a_mask_function_gets_plain_data_and_its_result_is_written() -> None:
    seen: list[Any] = []

    def mask(value: Any) -> Any:
        seen.append(value)
        return {**value, "text": value["text"].replace("1234", "####")}

    question = Question("card 1234")
    assert plain(question, mask=mask) == {"text": "card ####", "api_key": "***"}
    assert seen == [{"text": "card 1234", "api_key": "***"}]
    assert question.text == "card 1234"


@pytest.mark.parametrize("error", [ValueError, SystemExit, RecursionError])
def test_a_mask_that_raises_hides_the_whole_value(error: type[BaseException]) -> None:
    def mask(value: Any) -> Any:
        raise error

    data, _ = encode({"card": "1234"}, mask=mask)
    assert data == f'"<mask failed: {error.__name__}>"'.encode()
    trouble.forget()


def test_what_a_mask_returns_may_be_anything() -> None:
    assert plain("x", mask=lambda value: {1, float("nan")} - {1}) == ["NaN"]
    assert encode("x", 100, mask=lambda value: "y" * 10_000)[1] >= 10_000


def test_secret_names_in_what_a_mask_returns_are_hidden_too() -> None:
    assert plain("x", mask=lambda value: {"password": value}) == {"password": "***"}


def test_floats_keep_their_value() -> None:
    for number in (0.1, 1e308, -0.0, math.pi):
        assert plain(number) == number
