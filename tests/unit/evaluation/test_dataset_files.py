"""Datasets from and to files, frames and records: what is read, what is left out and why, what comes back."""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tracekeeper as tk
from tracekeeper.evaluation.datasets.given import items_of_file
from tracekeeper.types import DatasetError, ImportFileError, MissingExtraError, TracekeeperWarning


@pytest.fixture(autouse=True)
def _own_data(keeper: object) -> None:
    """A database of the test's own."""


ITEMS: list[dict[str, Any]] = [
    {"id": "fr", "question": "capital of France?", "expected": "Paris", "tags": ["europe", "easy"], "split": "test"},
    {"id": "pe", "question": 'quotes " and\nlines, ünïcode 数据', "expected": None, "docs": [{"text": "a", "rank": 1}]},
    {"question": "no id", "expected": "x", "docs": []},
]


def fields(dataset: Any) -> list[dict[str, Any]]:
    return [dict(item.fields) for item in dataset]


def need(format: str) -> None:
    if format in ("yaml", "parquet"):
        pytest.importorskip({"yaml": "yaml", "parquet": "pyarrow"}[format])


@pytest.mark.parametrize("format", ["jsonl", "json", "yaml"])
def test_what_is_written_comes_back_as_the_same_version(format: str, tmp_path: Path) -> None:
    need(format)
    dataset = tk.Dataset("d").insert(ITEMS)
    path = dataset.to_file(tmp_path / f"d.{format}")
    back = tk.Dataset.from_file("back", path)
    assert list(back) == list(dataset)
    assert back.version == dataset.version
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith((".d", "d."))) == (
        ["d.schema.json", "d.yaml"] if format == "yaml" else [f"d.{format}"]
    )


def test_parquet_comes_back_with_a_null_for_each_field_that_was_not_there(tmp_path: Path) -> None:
    need("parquet")
    dataset = tk.Dataset("d").insert(ITEMS)
    back = tk.Dataset.from_parquet("back", dataset.to_parquet(tmp_path / "d.parquet"))
    assert list(back.ids()) == list(dataset.ids())
    names = ("question", "expected", "docs")
    assert fields(back) == [{name: item.fields.get(name) for name in names} for item in dataset]
    assert [(item.tags, item.split) for item in back] == [(item.tags, item.split) for item in dataset]


TAGGED: list[dict[str, Any]] = [
    {"id": "fr", "question": "capital of France?", "expected": "Paris", "tags": ["europe", "easy"], "split": "test"},
    {
        "id": "pe",
        "question": 'Perú\'s, and\nits "capital"?',
        "expected": "Lima",
        "tags": ["a, b", "[c]"],
        "split": "train",
    },
    {"id": "01", "question": "no", "expected": "yes: true", "tags": ["null"]},
    {"id": "xx", "question": "split only", "expected": "3", "split": "2026-01-02"},
]
"""Texts alone, which every format keeps; some look like something else."""


@pytest.mark.parametrize("format", ["jsonl", "json", "csv", "yaml", "parquet"])
@pytest.mark.parametrize(
    "some", [slice(None), slice(1), slice(2, 3), slice(3, 4)], ids=["all", "both", "tags", "split"]
)
def test_tags_and_splits_come_back_from_every_format_by_every_door(format: str, some: slice, tmp_path: Path) -> None:
    need(format)
    dataset = tk.Dataset("d").insert(TAGGED[some])
    path = dataset.to_file(tmp_path / f"d.{format}")
    read = items_of_file(path)
    assert read == list(tk.Dataset.from_file("back", path)), "a file has the same items wherever it is named"
    assert [(item.id, item.tags, item.split, item.fields) for item in read] == [
        (item.id, item.tags, item.split, item.fields) for item in dataset
    ]
    again = tk.Dataset("again").insert(read)
    assert again.version == dataset.version
    assert again.to_file(tmp_path / f"again.{format}").read_bytes().replace(b"again", b"d") == (
        path.read_bytes().replace(b"again", b"d")
    )


@pytest.mark.parametrize("format", ["csv", "yaml", "parquet"])
def test_a_run_over_a_file_has_its_tags_and_splits(format: str, tmp_path: Path) -> None:
    need(format)
    path = tk.Dataset("d").insert(TAGGED).to_file(tmp_path / f"d.{format}")
    experiment = tk.evaluate(items_of_file(path), lambda question: question, filter="tag = easy or split = train")
    assert [(one.item_id, one.tags, one.split) for one in experiment] == [
        ("fr", ("europe", "easy"), "test"),
        ("pe", ("a, b", "[c]"), "train"),
    ]
    assert {"europe", "easy", "a, b", "[c]"} == set(experiment.summary(by="tags"))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("d.csv", "q,tags\na,[x\n", "line 2: its tags begin with a bracket and are no JSON list"),
        ("d.csv", "q,tags\na,x\nb,y,z\n", "line 3: 3 fields where the header has 2"),
        ("d.yaml", "- q: 1\n- text\n", "line 2: expected an object with fields, not text"),
        ("d.yaml", "[]\n", "there are no items in it"),
        ("d.yaml", "- {id: a, q: 1}\n- {id: a, q: 2}\n", "items 1 and 2 have the same id, 'a'"),
        ("d.yaml", "- q: [\n", "not YAML"),
        ("d.parquet", "PAR1", "not Parquet"),
    ],
)
def test_a_named_file_with_anything_wrong_is_refused_whole(name: str, content: str, why: str, tmp_path: Path) -> None:
    need(name.partition(".")[2])
    (tmp_path / name).write_text(content)
    with pytest.raises(DatasetError) as caught:
        items_of_file(tmp_path / name)
    assert why in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_csv_comes_back_as_text_with_tags_and_split(tmp_path: Path) -> None:
    dataset = tk.Dataset("d").insert(ITEMS)
    back = tk.Dataset.from_csv("back", dataset.to_csv(tmp_path / "d.csv"))
    assert [(item.id, item.tags, item.split) for item in back] == [(i.id, i.tags, i.split) for i in dataset]
    assert back.get("pe").fields == {
        "question": 'quotes " and\nlines, ünïcode 数据',
        "expected": "",
        "docs": '[{"text":"a","rank":1}]',
    }


@pytest.mark.parametrize("format", ["jsonl", "json", "csv", "yaml", "parquet"])
def test_an_empty_selection_can_be_written(format: str, tmp_path: Path) -> None:
    need(format)
    path = tk.Dataset("d").insert(ITEMS).select(tags="none").to_file(tmp_path / f"d.{format}")
    assert path.exists()


@pytest.mark.parametrize("format", ["jsonl", "yaml", "parquet"])
def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(format)
    path = tmp_path / "out" / f"d.{format}"
    path.parent.mkdir()
    path.write_text("old")
    dataset = tk.Dataset("d").insert(ITEMS)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(OSError, match="no space"):
        dataset.to_file(path)
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_broken_lines_are_named_and_the_good_ones_kept(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"q": 1}\n{"q": \n\n[1]\n{"q": 2, "tags": 3}\n{"q": 4}\n')
    with pytest.warns(TracekeeperWarning, match=r"d\.jsonl: 3 lines left out: line 2: not JSON.*; line 4: .*; line 5"):
        dataset = tk.Dataset.from_jsonl("d", path)
    assert fields(dataset) == [{"q": 1}, {"q": 4}]
    assert [row.line for row in dataset.left_out] == [2, 4, 5]
    assert dataset.versions()[-1].complete


def test_the_broken_elements_of_a_yaml_list_are_named_by_line(tmp_path: Path) -> None:
    need("yaml")
    path = tmp_path / "d.yaml"
    path.write_text("items:\n- q: 1\n- just text\n- q: !!python/object:os.system {}\n- q: 2026-01-02\n  n: &a [1]\n")
    with pytest.warns(TracekeeperWarning, match=r"2 lines left out: line 3: .*not text; line 4: not YAML: could not"):
        dataset = tk.Dataset.from_yaml("d", path)
    assert fields(dataset) == [{"q": 1}, {"q": "2026-01-02", "n": [1]}]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("d.jsonl", "", "the file is empty"),
        ("d.jsonl", '{"q": \n{"q": \n', "nothing could be kept; 2 lines left out: line 1"),
        ("d.yaml", "a: [1", r"d\.yaml, line [12]: not YAML"),
        ("d.yaml", "just text", "expected a list of items"),
        ("d.yaml", "", "the file is empty"),
        ("d.parquet", "not parquet", "not Parquet"),
        ("missing.jsonl", None, "No such file"),
        ("missing.yaml", None, "No such file"),
        ("missing.parquet", None, "(?i)no such file"),
    ],
)
def test_a_file_that_gives_nothing_is_an_error(name: str, content: str | None, why: str, tmp_path: Path) -> None:
    need(name.split(".")[1])
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(ImportFileError, match=why):
        tk.Dataset.from_file("d", path)
    assert len(tk.Dataset("d")) == 0


def test_fields_can_be_renamed_and_one_can_be_the_id(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text('key,user_query,answer,tags\n7,why?,so,"a, b"\n,no id,x,\n8,how?,thus,"[""c""]"\n')
    with pytest.warns(TracekeeperWarning, match="1 line left out: line 3: no field 'key', which is to be its id"):
        dataset = tk.Dataset.from_csv(
            "d", path, id="key", rename={"user_query": "question", "answer": "expected"}, tags="imported", split="dev"
        )
    assert [(item.id, item.inputs, item.expected, item.tags, item.split) for item in dataset] == [
        ("7", {"question": "why?"}, "so", ("a", "b", "imported"), "dev"),
        ("8", {"question": "how?"}, "thus", ("c", "imported"), "dev"),
    ]


def test_a_conflict_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('\n\n{"id": "a", "q": 1}\n{"id": "b", "q": 1}\n{"id": "a", "q": 2}\n')
    with pytest.raises(DatasetError, match="lines 3 and 5 have the same id, 'a', and differ in: q"):
        tk.Dataset.from_jsonl("d", path)
    assert fields(tk.Dataset.from_jsonl("d", path, update=True)) == [{"q": 2}, {"q": 1}]


def test_options_that_cannot_work_are_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"a": 1, "b": 2}')
    with pytest.raises(TypeError, match="unexpected keyword argument 'ids'; there are id, rename"):
        tk.Dataset.from_jsonl("d", path, ids="a")  # type: ignore[call-arg]
    with pytest.raises(DatasetError, match="two fields would be called the same"):
        tk.Dataset.from_jsonl("d", path, rename={"a": "x", "b": "x"})
    with pytest.raises(ImportFileError, match="two fields are called the same after rename"):
        tk.Dataset.from_jsonl("d", path, rename={"a": "b"})
    with pytest.raises(ImportFileError, match="format='xml': expected jsonl"):
        tk.Dataset.from_file("d", path, format="xml")  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"x\.doc: its ending tells no format; expected jsonl"):
        tk.Dataset("d").insert(["x"]).to_file(tmp_path / "x.doc")


def test_a_parquet_column_with_values_of_different_types_is_refused_and_named(tmp_path: Path) -> None:
    need("parquet")
    for number, values in enumerate(([1, "text"], [[1], {"a": 1}])):
        dataset = tk.Dataset(f"d{number}").insert([{"mixed": value} for value in values])
        with pytest.raises(DatasetError, match="field 'mixed' has values of different types"):
            dataset.to_parquet(tmp_path / "d.parquet")
    with pytest.raises(DatasetError, match="field 'empty' has an object without fields"):
        tk.Dataset("e").insert([{"empty": {}}]).to_parquet(tmp_path / "d.parquet")
    assert not (tmp_path / "d.parquet").exists()


def test_a_column_of_parquet_that_begins_with_nulls_keeps_what_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("parquet")
    monkeypatch.setattr("tracekeeper.evaluation.datasets.writing.ROWS", 2)
    values = [None, None, 1, None, 2.5, None, None]
    dataset = tk.Dataset("d").insert([{"id": str(n), "n": n, "late": value} for n, value in enumerate(values)])
    back = tk.Dataset.from_parquet("back", dataset.to_parquet(tmp_path / "d.parquet"))
    assert [item.fields["late"] for item in back] == values


@pytest.mark.parametrize(("module", "name"), [("yaml", "d.yaml"), ("pyarrow", "d.parquet")])
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    (tmp_path / name).write_text("x")
    with pytest.raises(MissingExtraError, match=r"pip install 'tracekeeper\["):
        tk.Dataset.from_file("d", tmp_path / name)
    with pytest.raises(MissingExtraError, match=r"pip install 'tracekeeper\["):
        tk.Dataset("d").insert(["x"]).to_file(tmp_path / name)
    assert (tmp_path / name).read_text() == "x"


def test_a_data_frame_goes_in_and_comes_out() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"key": ["a", "b"], "n": [1, 2], "gap": [None, "x"]})
    dataset = tk.Dataset.from_pandas("d", frame, id="key", split="test")
    out = dataset.to_pandas()
    assert list(out.columns) == ["id", "n", "gap", "split"]
    assert out["id"].tolist() == ["a", "b"]
    assert out["n"].tolist() == [1, 2]
    assert out["gap"].isna().tolist() == [True, False]


def test_whole_numbers_that_a_float_would_round_come_back_from_a_data_frame_as_they_were() -> None:
    pytest.importorskip("pandas")
    items = [{"id": "a", "n": 2**63 - 1, "m": 2**53 + 1}, {"id": "b", "m": 0.5}, {"id": "c", "n": 3, "k": True}]
    dataset = tk.Dataset("d").insert(items)
    back = tk.Dataset.from_pandas("back", dataset.to_pandas())
    assert [[item.fields.get(name) for name in "nmk"] for item in back] == [
        [2**63 - 1, 2**53 + 1, None],
        [None, 0.5, None],
        [3, None, True],
    ]
    assert isinstance(back.get("c").fields["n"], int)


def test_a_csv_file_that_nothing_could_read_is_not_written(tmp_path: Path) -> None:
    dataset = tk.Dataset("d").insert([{"id": "a", "q": "x"}, {"id": "b", "q": "x\0y"}])
    with pytest.raises(tk.DatasetError, match="item 'b': field 'q' has a zero character"):
        dataset.to_csv(tmp_path / "d.csv")
    assert not [*tmp_path.glob("*d.csv*")]


def test_a_field_of_two_types_has_no_column_in_a_dataset_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow")
    hub = types.ModuleType("datasets")
    hub.Dataset = types.SimpleNamespace(from_list=pa.Table.from_pylist)  # type: ignore[attr-defined]  # what it does
    monkeypatch.setitem(sys.modules, "datasets", hub)
    assert tk.Dataset("d").insert([{"id": "a", "q": 1}, {"id": "b"} | {"k": "x"}]).to_huggingface().num_rows == 2
    with pytest.raises(tk.DatasetError, match="a field has values of different types, and datasets has one type"):
        tk.Dataset("e").insert([{"id": "a", "q": 1}, {"id": "b", "q": "x"}]).to_huggingface()


def test_a_streamed_dataset_of_the_hub_is_read_once_row_by_row() -> None:
    class Streamed:
        """What ``load_dataset(…, streaming=True)`` gives, as far as is used: it can be iterated."""

        column_names = ("question", "answer")

        def __iter__(self) -> Iterator[dict[str, Any]]:
            for n in range(3):
                yield {"question": f"{n}?", "answer": [str(n)]}

    dataset = tk.Dataset.from_huggingface("d", Streamed(), rename={"answer": "expected"})
    assert fields(dataset)[2] == {"question": "2?", "expected": ["2"]}
    splits = tk.Dataset.from_huggingface("splits", {"train": Streamed(), "test": Streamed()}, update=True)
    assert {item.split for item in splits} == {"test"}  # the same rows in both: the last one counts


def test_records_become_items_once_for_each_input() -> None:
    for question, output in (("a", "bad"), ("b", "good"), ("a", "bad again"), ("c", "bad")):
        tk.log_record(input={"question": question, "id": "u1"}, output=output, expected="good", app="rag")
    dataset = tk.Dataset.from_records("d", 'app = "rag" and output ~ "bad"', tags=["prod"], split="regression")
    assert fields(dataset) == [
        {"question": "a", "id_": "u1", "expected": "good"},
        {"question": "c", "id_": "u1", "expected": "good"},
    ]
    assert {(item.tags, item.split) for item in dataset} == {(("prod",), "regression")}
    assert len(tk.Dataset.from_records("newest", limit=1)) == 1
    assert fields(tk.Dataset.from_records("newest", limit=1)) == [{"question": "c", "id_": "u1", "expected": "good"}]
    assert [item.expected for item in tk.Dataset.from_records("gold", 'output = "good"', expected="output")] == ["good"]
    assert fields(tk.Dataset.from_records("none", 'output = "good"', expected="none")) == [
        {"question": "b", "id_": "u1"}
    ]


def test_records_are_read_in_pages_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracekeeper.evaluation.datasets.records.PAGE", 2)
    for n in range(7):
        tk.log_record(input={"n": n}, output="x", app="rag")
    assert [item.fields["n"] for item in tk.Dataset.from_records("d")] == list(range(7))
    assert [item.fields["n"] for item in tk.Dataset.from_records("five", limit=5)] == [2, 3, 4, 5, 6]


def test_a_call_of_an_app_becomes_an_item_and_one_that_was_cut_does_not() -> None:
    @tk.app(name="ask", version="1")
    def ask(question: str) -> str:
        return "x"

    ask("short")
    ask("long" * 1_000_000)
    with pytest.warns(TracekeeperWarning, match=r"1 record left out: record 2: .*its input was cut"):
        dataset = tk.Dataset.from_records("d")
    assert fields(dataset) == [{"question": "short"}]


def test_a_filter_that_does_not_parse_is_said_before_anything_is_read() -> None:
    with pytest.raises(tk.FilterError):
        tk.Dataset.from_records("d", "app =")
    with pytest.raises(DatasetError, match="limit=0"):
        tk.Dataset.from_records("d", limit=0)
    with pytest.raises(DatasetError, match="expected='gold'"):
        tk.Dataset.from_records("d", expected="gold")  # type: ignore[arg-type]


def test_the_schema_accepts_what_is_there_and_refuses_what_is_not(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    dataset = tk.Dataset("d").insert(ITEMS)
    schema = dataset.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    good = json.loads(dataset.to_json(tmp_path / "d.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(good)
    for bad in (
        [{**good[0], "question": 3}],
        [{**good[0], "questoin": "typo"}],
        [{"id": "x", "expected": "no question"}],
        [{**good[0], "tags": [1]}],
        [{**good[1], "docs": [{"text": "no rank"}]}],
        {"not": "a list"},
    ):
        assert not validator.is_valid(bad), bad


def test_a_yaml_file_names_the_schema_beside_it_for_editors(tmp_path: Path) -> None:
    need("yaml")
    path = tk.Dataset("d").insert(ITEMS).to_yaml(tmp_path / "d.yaml")
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())
    assert named is not None
    assert json.loads((tmp_path / named[1]).read_text())["title"] == "d"


numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
rows = st.lists(
    st.dictionaries(texts.filter(lambda name: name not in ("id", "tags", "split")), values, min_size=1, max_size=3),
    max_size=4,
)
names = iter(range(1_000_000))


@given(rows)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_items_come_back_and_have_a_valid_schema(tmp_path: Path, found: list[dict[str, Any]]) -> None:
    pytest.importorskip("yaml")
    jsonschema = pytest.importorskip("jsonschema")
    number = next(names)
    dataset = tk.Dataset(f"any {number}").insert(found)
    for format in ("jsonl", "yaml") if found else ():
        back = tk.Dataset.from_file(f"{format} {number}", dataset.to_file(tmp_path / f"any.{format}"))
        assert back.version == dataset.version
    jsonschema.Draft202012Validator(dataset.schema()).validate(
        json.loads(dataset.to_json(tmp_path / "any.json").read_text())
    )
