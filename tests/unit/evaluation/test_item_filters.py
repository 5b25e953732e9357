"""Filters of items: they mean what they mean of records, wherever the items come from, and keep no item in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, select
from tests.support import programs
from tests.unit.filter.test_agreement import NOW, _rows, _some, _store, leaves

import tracekeeper as tk
from tracekeeper.evaluation.datasets.filtering import _holds, item_filter
from tracekeeper.evaluation.item import Item
from tracekeeper.store import tables
from tracekeeper.store.filter import ITEMS, parse
from tracekeeper.store.filter.compile import compile_node
from tracekeeper.store.filter.nodes import Node
from tracekeeper.store.search import create_search, index_pending

# -- the same answer as of records

shared: st.SearchStrategy[Node] = st.recursive(leaves(("input", "expected", "tag")), _some, max_leaves=6)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Connection, dict[int, Item]]]:
    """Records, and by their ids items that hold the same."""
    rows = [row for row in _rows(seed=11, count=160) if isinstance(row["payload"]["input"], dict)]
    for row in rows:
        row["spans"][0]["status"] = "ok"  # what runs is not in the index yet
    path: Path = tmp_path_factory.mktemp("filter") / "store.db"
    engine = create_engine(f"sqlite:///{path}")
    tables.metadata.create_all(engine)
    with engine.begin() as connection:
        create_search(connection)
        _store(connection, rows)
        index_pending(connection)
        items = {}
        for row in rows:
            expected = row["payload"]["expected"]
            fields = {**row["payload"]["input"], **({} if expected is ... else {"expected": expected})}
            items[row["id"]] = Item(id=f"i{row['id']}", fields=fields, tags=tuple(row["tag"]))
        yield connection, items
    engine.dispose()


@pytest.mark.slow
@settings(max_examples=600, deadline=None)
@given(node=shared)
def test_an_item_is_taken_where_a_record_that_holds_the_same_is_found(
    node: Node, both: tuple[Connection, dict[int, Item]]
) -> None:
    connection, items = both
    found = set(connection.scalars(select(tables.record.c.id).where(compile_node(node, now=NOW))))
    takes = _holds(node)
    assert {id for id, item in items.items() if takes(item)} == found
    text = str(node)
    assert parse(text, ITEMS) == node, "it may be written of items as it is of records"


@pytest.mark.parametrize("text", ['expected !~ "x"', 'expected ~ "nul"', "expected is present", 'expected != "x"'])
def test_a_null_is_no_value_of_records_as_of_items(keeper: Any, text: str) -> None:
    for expected in (None, "y"):
        tk.log_record(app="asked", input={"question": "?"}, output="!", expected=expected)
    assert keeper.ship() is None
    with closing(sqlite3.connect(keeper.directory / "tracekeeper.db")) as database, database:
        database.execute("UPDATE payload SET expected = 'null' WHERE expected IS NULL")
    items = [Item(id=str(each), fields={"question": "?", "expected": each}) for each in (None, "y")]
    takes = item_filter(text)
    assert [takes(item) for item in items] == [False, text != 'expected ~ "nul"']
    found = {record.expected for record in tk.records(text)}
    assert found == {item.expected for item in items if takes(item)}


# -- what there is to ask

ITEM = Item(
    id="fr",
    fields={"topic": "weather", "question": "What of Rain, please?", "k": 3, "o": {"x": [1, "Ab"]}, "expected": "Mild"},
    tags=("hard", "europe"),
    split="test",
)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("id = fr", True),
        ("id in (pe, fr) and not id = pe", True),
        ("tag = hard and tag = europe", True),
        ("tag != hard", False),
        ("tag not in (easy)", True),
        ("split = test", True),
        ("split is missing or split != test", False),
        ("input.topic = weather", True),
        ('input["o"]["x"] ~ "ab"', True),
        ("input.k > 2.5 and input.k in (3, 4)", True),
        ('input.k = "3"', False),
        ('input ~ "of rain"', True),
        ('input ~ "rain of"', False),
        ('input ~ "question"', False),
        ("input.expected is present", False),
        ("expected = Mild", True),
        ("expected ~ mil", True),
        ("expected !~ mil", False),
        ("input.absent != x", False),
        ("not input.absent = x", True),
    ],
)
def test_a_filter_asks_for_id_tags_split_input_and_what_is_expected(text: str, taken: bool) -> None:
    assert bool(item_filter(text)(ITEM)) is taken


def test_the_only_field_of_an_input_is_the_input_and_a_reference_is_what_is_expected() -> None:
    item = Item(id="a", fields={"question": "1 + 1?", "reference": "2"})
    assert item_filter('input = "1 + 1?" and expected = "2"')(item)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("topic = weather", "unknown field 'topic'; if it is a field of the items, write input.topic"),
        ("tags = hard", "did you mean tag?"),
        ("spllit = test", "did you mean split?"),
        ("score.right = 1", "unknown field 'score.right'"),
        ("id > 3", "id cannot be compared with '>'"),
        ("", "the filter is empty"),
        ("tag =", "expected a value to compare tag with"),
        ("= 3", "expected a field such as tag, split or input.NAME"),
    ],
)
def test_a_mistake_is_told_before_an_item_is_looked_at(text: str, said: str, keeper: object) -> None:
    with pytest.raises(tk.FilterError) as caught:
        item_filter(text)
    assert said in str(caught.value)
    with pytest.raises(tk.FilterError):
        tk.Dataset("none").select(filter=text)
    with pytest.raises(tk.FilterError):
        tk.evaluate([{"q": 1}], lambda q: pytest.fail("called"), filter=text)


def test_a_filter_that_is_neither_text_nor_a_function_is_refused(keeper: object) -> None:
    wrong: Any = 3
    with pytest.raises(tk.DatasetError, match="filter=3: expected a filter such as"):
        tk.Dataset("none").select(filter=wrong)
    with pytest.raises(tk.ConfigurationError, match="filter=3: expected a filter such as"):
        tk.evaluate([{"q": 1}], lambda q: q, filter=wrong)


# -- the doors

ROWS = [
    {"id": f"i{n}", "n": n, "tags": ["odd"] if n % 2 else ["even"], "split": "test" if n > 5 else "train"}
    for n in range(10)
]


def test_a_selection_by_a_filter_combines_with_all_others(keeper: object) -> None:
    dataset = tk.Dataset("numbers").insert(ROWS)
    some = dataset.select(filter="input.n >= 4", tags="even")
    assert list(some.ids()) == [item.id for item in some] == ["i4", "i6", "i8"]
    assert len(some) == 3
    assert some.get("i6").fields == {"n": 6}
    with pytest.raises(tk.DatasetError, match="has no item 'i2'"):
        some.get("i2")
    assert list(some.select(filter=lambda item: item.fields["n"] != 6).ids()) == ["i4", "i8"]
    assert list(some.select(split="test", ids=["i8"]).ids()) == ["i8"]
    assert repr(some) == "Dataset('numbers').select(tags=['even'], filter='input.n >= 4')"
    dataset.insert([{"id": "i10", "n": 10, "tags": ["even"]}])
    assert len(some) == 3, "it stays at its version"


def test_a_sample_is_of_what_the_filter_takes(keeper: object) -> None:
    dataset = tk.Dataset("numbers").insert(ROWS)
    three = dataset.select(filter="tag = odd", sample=3, seed=2)
    assert len(three) == len(list(three)) == 3
    assert {item.fields["n"] % 2 for item in three} == {1}
    four = dataset.select(filter=lambda item: "odd" in item.tags, sample=4, seed=2)
    assert set(three.ids()) < set(four.ids())
    assert list(dataset.select(filter="tag = odd").select(sample=3, seed=2).ids()) == list(three.ids())


def test_evaluate_takes_a_filter_of_a_list_and_of_a_dataset(keeper: object) -> None:
    dataset = tk.Dataset("numbers").insert(ROWS)
    for data in (ROWS, dataset, dataset.select(split="test")):
        experiment = tk.evaluate(data, lambda n: n, filter="split = test and tag = even")
        assert [item.output for item in experiment] == [6, 8]
    assert len(tk.resume(experiment, task=lambda n: n)) == 2, "what was left out stays out"
    assert len(tk.evaluate(ROWS, lambda n: n, filter="tag = odd", sample=2, seed=1)) == 2
    with pytest.raises(tk.ConfigurationError, match="filter= leaves no item to evaluate"):
        tk.evaluate(ROWS, lambda n: n, filter="tag = none")


PROGRAM = """
import resource, sys
import tracekeeper as tk

def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20)

dataset = tk.Dataset("big").insert({"n": n, "text": f"{n} " * 200} for n in range(30_000))
assert sum(1 for _ in dataset.select(filter="input.n < 10")) == 10
before = used()
some = dataset.select(filter="input.n >= 100")
assert len(some) == sum(1 for _ in some) == sum(1 for _ in some.ids()) == 29_900
assert len(list(dataset.select(filter="input.n >= 100", sample=10))) == 10
print(round(used() - before))
"""


@pytest.mark.slow
def test_a_filter_of_a_large_dataset_keeps_none_of_it_in_memory(tmp_path: Path) -> None:
    done = programs.run(PROGRAM, tmp_path, timeout=300)
    assert done.code == 0, done.err
    assert int(done.out) < 20, "30,000 items are 40 MB of text"
