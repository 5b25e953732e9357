"""``tk.Dataset[In, Out]``: what fits its types is stored as they have it, what does not is refused and named."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pytest

import tracekeeper as tk
from tracekeeper.types import DatasetError, TracekeeperWarning


class Question(msgspec.Struct):
    text: str
    language: str = "en"


class Answer(msgspec.Struct):
    city: str
    inhabitants: int | None = None


@dataclass
class DataQuestion:
    text: str
    language: str = "en"


class DictQuestion(TypedDict):
    text: str
    language: str


@pytest.fixture(autouse=True)
def _own_data(keeper: object) -> None:
    """A database of the test's own."""


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        (Question, Question("capital of Peru?")),
        (DataQuestion, DataQuestion("capital of Peru?")),
        (DictQuestion, {"text": "capital of Peru?", "language": "en"}),
    ],
)
def test_pairs_are_stored_as_fields_and_come_back_as_their_types(kind: Any, made: Any) -> None:
    dataset = tk.Dataset[kind, Answer]("d").insert([(made, Answer("Lima"))])
    [item] = dataset
    assert item.fields == {
        "text": "capital of Peru?",
        "language": "en",
        "expected": {"city": "Lima", "inhabitants": None},
    }
    [typed] = dataset.typed()
    assert (typed.input, typed.expected) == (made, Answer("Lima"))


def test_pydantic_models_are_validated_and_keep_their_aliases() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        text: str = pydantic.Field(alias="theText")
        count: int = pydantic.Field(default=1, gt=0)

    dataset = tk.Dataset[Model, str]("d").insert([{"id": "a", "theText": "x", "count": "2"}, (Model(theText="y"), "z")])
    assert [item.fields for item in dataset] == [
        {"theText": "x", "count": 2},
        {"theText": "y", "count": 1, "expected": "z"},
    ]
    assert [item.input.count for item in dataset.typed()] == [2, 1]
    assert len(dataset.insert([Model(theText="y"), Model(theText="w")])) == 4
    with pytest.raises(DatasetError, match="item 1: it is no Model: count: Input should be greater than 0"):
        dataset.insert([{"theText": "x", "count": 0}])


def test_a_type_without_fields_is_that_of_the_input() -> None:
    dataset = tk.Dataset[str, int]("d").insert([("1 + 1?", 2), "no answer"])
    assert [(item.input, item.expected) for item in dataset.typed()] == [("1 + 1?", 2), ("no answer", None)]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"txt": "typo"}, "item 2: it is no Question: Object missing required field `text`"),
        ({"text": 3}, r"item 2: it is no Question: Expected `str`, got `int` - at `\$.text`"),
        ({"text": "x", "extra": 1}, "item 2: field 'extra' is none of Question, so it would be lost"),
        ({"text": "x", "expected": {"town": "Lima"}}, "item 2: expected is no Answer: Object missing .*`city`"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_position(bad: Any, why: str) -> None:
    with pytest.raises(DatasetError, match=why):
        tk.Dataset[Question, Answer]("d").insert([{"text": "good"}, bad])
    assert len(tk.Dataset("d")) == 0


def test_defaults_are_filled_in_before_the_content_names_an_item() -> None:
    dataset = tk.Dataset[Question, Any]("d").insert([{"text": "x"}, {"text": "x", "language": "en"}, Question("x")])
    assert len(dataset) == 1
    assert tk.Dataset("plain").insert([{"text": "x", "language": "en"}]).version == dataset.version


def test_rows_of_a_file_that_do_not_fit_are_left_out_by_line(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a"}\n{"tex": "b"}\n{"text": "c", "expected": {"city": "x"}}\n')
    with pytest.warns(TracekeeperWarning, match="1 line left out: line 2: it is no Question"):
        dataset = tk.Dataset[Question, Answer].from_jsonl("d", path)
    assert [(item.input, item.expected) for item in dataset.typed()] == [
        (Question("a"), None),
        (Question("c"), Answer("x")),
    ]
    assert isinstance(dataset, tk.Dataset)


def test_an_item_that_does_not_fit_when_it_is_read_is_named() -> None:
    tk.Dataset("d").insert([{"id": "old", "other": 1}])
    with pytest.raises(DatasetError, match="item 'old' of dataset 'd': it is no Question"):
        list(tk.Dataset[Question, Answer]("d").typed())
    assert next(tk.Dataset("d").typed()).input == {"other": 1}


def test_the_schema_is_that_of_the_types_before_there_is_an_item(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    pydantic = pytest.importorskip("pydantic")

    class Inner(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        n: int

    class Model(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        inner: Inner

    for dataset, good, bad in (
        (tk.Dataset[Question, Answer]("q"), {"text": "x", "expected": {"city": "Lima"}}, {"text": "x", "expected": 1}),
        (tk.Dataset[Model, str]("m"), {"inner": {"n": 1}, "id": "a"}, {"inner": {"n": "x"}}),
        (tk.Dataset[str, int]("s"), {"input": "x", "expected": None, "tags": ["t"]}, {"input": "x", "other": 1}),
    ):
        schema = json.loads(json.dumps(dataset.schema()))
        validator = jsonschema.Draft202012Validator(schema)
        validator.check_schema(schema)
        assert validator.is_valid([good])
        assert not validator.is_valid([bad])


def test_a_dataset_takes_two_types() -> None:
    with pytest.raises(TypeError, match="takes two types"):
        tk.Dataset[str]  # type: ignore[misc]

    class Taken(msgspec.Struct):
        id: str

    with pytest.raises(TypeError, match="Taken has a field 'id', which an item has beside its input"):
        tk.Dataset[Taken, str]
