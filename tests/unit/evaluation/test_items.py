"""``items_of``: what becomes an item, its id, and what is answered to things that are none."""

from __future__ import annotations

import datetime
import enum
import itertools
import uuid
from collections import namedtuple
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeeper.evaluation.datasets.items import items_of
from tracekeeper.evaluation.item import Item, item_id
from tracekeeper.types import DatasetError


def fields(thing: Any) -> list[dict[str, Any]]:
    return [dict(item.fields) for item in items_of(thing)]


def test_an_item_is_named_by_its_content_or_by_its_id() -> None:
    one, other, third = items_of([{"q": 1, "e": 2}, {"e": 2, "q": 3}, {"id": 7, "q": 1}])
    assert one.id == item_id({"e": 2, "q": 1})
    assert other.id != one.id
    assert (third.id, third.fields) == ("7", {"q": 1})


def test_tags_and_split_are_taken_out_of_the_fields() -> None:
    [item] = items_of([{"q": 1, "tags": ["hard", "hard", "math"], "split": "test"}])
    assert item == Item(id=item_id({"q": 1}), fields={"q": 1}, tags=("hard", "math"), split="test")
    assert next(items_of([{"q": 1, "tags": "hard"}])).tags == ("hard",)


def test_identical_contents_get_numbers() -> None:
    ids = [item.id for item in items_of([{"q": 1}, "x", {"q": 1}, {"q": 1}])]
    first = item_id({"q": 1})
    assert ids == [first, item_id({"input": "x"}), f"{first}-2", f"{first}-3"]


def test_the_same_ids_in_the_same_order_each_time() -> None:
    things = ["a", {"id": f"{item_id({'input': 'b'})}-2", "x": 1}, "b", "b", "b"]
    ids = [item.id for item in items_of(things)]
    assert ids == [item.id for item in items_of(things)]
    assert len(set(ids)) == len(ids)


def test_two_items_with_one_id_are_an_error_that_names_both() -> None:
    with pytest.raises(DatasetError, match=r"items 1 and 3 have the same id, 'paris'"):
        list(items_of([{"id": "paris", "q": 1}, {"id": "rome", "q": 1}, {"id": "paris", "q": 1}]))


def test_what_has_no_fields_is_the_input() -> None:
    assert fields(["text", 3, None, ["list"], ("a", 1)]) == [
        {"input": "text"},
        {"input": 3},
        {"input": None},
        {"input": ["list"]},
        {"input": ["a", 1]},
    ]


def test_models_of_every_kind_are_their_fields() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        id: str = "m"
        question: str
        when: datetime.date = datetime.date(2026, 1, 2)

    class Struct(msgspec.Struct):
        question: str
        tags: list[str] = []

    @dataclass
    class Data:
        question: str
        inner: Struct

    Named = namedtuple("Named", "question")
    items = list(items_of([Model(question="a"), Struct("b", ["t"]), Data("c", Struct("d")), Named("e")]))
    assert [item.fields for item in items] == [
        {"question": "a", "when": "2026-01-02"},
        {"question": "b"},
        {"question": "c", "inner": {"question": "d", "tags": []}},
        {"question": "e"},
    ]
    assert (items[0].id, items[1].tags) == ("m", ("t",))


def test_a_data_frame_gives_a_row_an_item_and_its_gaps_are_null() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "question": ["a", None],
            "n": [1.5, float("nan")],
            "when": [pandas.Timestamp("2026-01-02"), pandas.NaT],
            "i": pandas.array([1, pandas.NA], dtype="Int64"),
        }
    )
    assert fields(frame) == [
        {"question": "a", "n": 1.5, "when": "2026-01-02T00:00:00", "i": 1},
        {"question": None, "n": None, "when": None, "i": None},
    ]


def test_a_frame_with_a_column_twice_is_refused() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DatasetError, match="more than one column 'a'"):
        list(items_of(pandas.DataFrame([[1, 2]], columns=["a", "a"])))


def test_values_are_kept_as_json_has_them() -> None:
    numpy = pytest.importorskip("numpy")

    class Color(enum.Enum):
        RED = "red"

    value = {
        "decimal": Decimal("1.10"),
        "uuid": uuid.UUID(int=1),
        "set": {"b", "a"},
        "bytes": b"\x00\xff",
        "path": Path("a/b"),
        "enum": Color.RED,
        "float32": numpy.float32(0.5),
        "array": numpy.arange(6).reshape(2, 3).T,
        1: "number as a key",
    }
    assert fields([value]) == [
        {
            "decimal": "1.10",
            "uuid": "00000000-0000-0000-0000-000000000001",
            "set": ["a", "b"],
            "bytes": "AP8=",
            "path": "a/b",
            "enum": "red",
            "float32": 0.5,
            "array": [[0, 3], [1, 4], [2, 5]],
            "1": "number as a key",
        }
    ]


def test_a_later_change_does_not_reach_an_item() -> None:
    question = {"q": ["a"]}
    [item] = items_of([question])
    question["q"].append("b")
    assert item.fields == {"q": ["a"]}


class Model(msgspec.Struct):
    x: float


cycle: dict[str, Any] = {"a": 1}
cycle["self"] = cycle


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"q": {"deep": [1, object()]}}, r"item 2: q\.deep\[1\] cannot be kept: .*object"),
        ({"q": 2**70}, r"item 2: q cannot be kept: an integer of more than 64 bits"),
        ({"q": "\ud800"}, r"item 2: q cannot be kept: text that UTF-8 cannot hold"),
        ({"q": [float("inf")]}, r"item 2: q\[0\] cannot be kept: JSON has no infinity"),
        ({"q": Model(float("-inf"))}, r"item 2: q\.x cannot be kept: JSON has no infinity"),
        (cycle, r"item 2: .*nested too deeply, or holds itself"),
        ({"id": "only"}, "item 2: it has no fields"),
        ({}, "item 2: it has no fields"),
        ({"id": ["x"], "q": 1}, r'item 2: id=\["x"\]: expected text'),
        ({"id": True, "q": 1}, "item 2: id=true: expected text"),
        ({"tags": [1], "q": 1}, r"item 2: tags=\[1\]: expected a list of texts"),
        ({"split": 1, "q": 1}, "item 2: split=1: expected text"),
    ],
)
def test_what_cannot_be_kept_is_named_with_its_place(bad: Any, why: str) -> None:
    with pytest.raises(DatasetError, match=why):
        list(items_of([{"q": 0}, bad]))


async def endless() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("thing", "why"),
    [
        ({"q": 1}, "a mapping is one item"),
        ("text", r"put texts into a list"),
        (Path("x.jsonl"), r"tk\.Dataset\.from_jsonl"),
        (3, "expected a list of items, a data frame or a dataset, not a int"),
        (dict, "not the class dict"),
        (Item(id="a", fields={"q": 1}), "a Item is one item"),
        (endless(), "async iterable"),
    ],
)
def test_what_holds_no_items_is_answered_with_what_to_give(thing: Any, why: str) -> None:
    with pytest.raises(DatasetError, match=why):
        list(items_of(thing))


def test_an_endless_iterable_is_taken_as_it_is_needed() -> None:
    first = list(itertools.islice(items_of(itertools.count()), 3))
    assert [item.fields for item in first] == [{"input": 0}, {"input": 1}, {"input": 2}]


def test_the_splits_of_a_dict_of_datasets_are_kept() -> None:
    class Part(list[dict[str, Any]]):
        column_names = ("q",)

    items = list(items_of({"train": Part([{"q": 1}]), "test": Part([{"q": 2}])}))
    assert [(item.fields, item.split) for item in items] == [({"q": 1}, "train"), ({"q": 2}, "test")]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_whatever_json_has_comes_out_as_it_went_in(value: Any) -> None:
    [item] = items_of([{"value": value}])
    assert item.fields == {"value": value}
    assert item.id == item_id(item.fields)
