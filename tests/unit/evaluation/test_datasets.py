"""``tk.Dataset``: versions by content, inserts that store no copies, selections, differences."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import tracekeeper as tk
from tracekeeper.evaluation.datasets import inserting
from tracekeeper.evaluation.datasets.forms import new_item
from tracekeeper.evaluation.datasets.items import items_of
from tracekeeper.store.connections import driver_of
from tracekeeper.store.datasets import changes as store_changes
from tracekeeper.store.datasets import reading
from tracekeeper.types import DatasetError, faults


@pytest.fixture(autouse=True)
def _own_data(keeper: object) -> Iterator[None]:
    yield
    faults.disarm()


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": f"i{n}", "n": n} for n in numbers]


def ns(dataset: Any) -> list[int]:
    return [item.fields["n"] for item in dataset]


def test_items_come_out_as_they_went_in_and_in_that_order() -> None:
    dataset = tk.Dataset("d").insert([{"n": 3, "id": "x", "tags": ["t"], "split": "test"}, {"n": 1}]).insert([{"n": 2}])
    assert ns(dataset) == [3, 1, 2]
    assert next(iter(dataset)) == tk.Item(id="x", fields={"n": 3}, tags=("t",), split="test")
    assert dataset.get("x").fields == {"n": 3}
    assert next(tk.Dataset("d").ids()) == "x"
    assert list(items_of(dataset)) == list(dataset)


def test_inserting_nothing_new_makes_no_version() -> None:
    dataset = tk.Dataset("d").insert(numbered(1, 2))
    version = dataset.version
    dataset.insert(numbered(2, 1)).insert([])
    assert (dataset.version, len(dataset), len(dataset.versions())) == (version, 2, 1)


def test_the_same_content_has_the_same_version_whatever_its_history() -> None:
    one = tk.Dataset("one").insert(numbered(1, 2, 3))
    other = tk.Dataset("other").insert(numbered(3)).insert(numbered(2, 4)).insert(numbered(1)).delete(["i4"])
    assert one.version == other.version
    assert len({each.version for each in other.versions()}) == 4
    assert tk.Dataset("third").insert(numbered(1, 2)).version != one.version


def test_a_version_is_of_tags_split_and_id_too() -> None:
    items = [
        {"n": 1, "id": "a"},
        {"n": 1, "id": "b"},
        {"n": 1, "id": "a", "tags": ["x"]},
        {"n": 1, "id": "a", "split": "s"},
    ]
    versions = {tk.Dataset(f"d{k}").insert([item]).version for k, item in enumerate(items)}
    assert len(versions) == 4


def test_an_id_with_other_content_is_refused_and_nothing_of_the_batch_is_stored() -> None:
    dataset = tk.Dataset("d").insert(numbered(1, 2))
    with pytest.raises(
        DatasetError, match=r"item 2: dataset 'd' has an item 'i2' that differs in: n, tags; .*update=True"
    ):
        dataset.insert([{"n": 5}, {"id": "i2", "n": 7, "tags": ["t"]}])
    assert ns(dataset) == [1, 2]


def test_two_items_of_one_insert_with_an_id_are_named_by_position() -> None:
    with pytest.raises(DatasetError, match=r"items 1 and 3 have the same id, 'i1', and differ in: n"):
        tk.Dataset("d").insert([*numbered(1, 2), {"id": "i1", "n": 5}])
    assert len(tk.Dataset("d").insert([*numbered(1, 2), *numbered(1)])) == 2


def test_an_update_replaces_in_place_and_old_versions_keep_what_they_had() -> None:
    dataset = tk.Dataset("d").insert(numbered(1, 2, 3))
    before = dataset.version
    dataset.insert([{"id": "i2", "n": 20}, {"id": "i4", "n": 4}, {"id": "i2", "n": 21}], update=True)
    assert ns(dataset) == [1, 21, 3, 4]
    assert ns(tk.Dataset("d", version=before)) == [1, 2, 3]
    assert [(v.added, v.changed, v.removed, v.items) for v in dataset.versions()] == [(3, 0, 0, 3), (1, 1, 0, 4)]


def test_deleting_is_all_or_nothing_and_earlier_versions_stay() -> None:
    dataset = tk.Dataset("d").insert(numbered(1, 2, 3))
    with pytest.raises(DatasetError, match=r"no item 'nope'; nothing was deleted"):
        dataset.delete(["i1", "nope"])
    assert ns(dataset.delete(["i1", "i1"])) == [2, 3]
    assert ns(tk.Dataset("d", version=1)) == [1, 2, 3]
    assert ns(dataset.insert(numbered(1))) == [2, 3, 1]
    with pytest.raises(DatasetError, match="dataset 'empty' has no item 'x'"):
        tk.Dataset("empty").delete("x")


def test_a_pinned_dataset_is_read_only_and_does_not_change() -> None:
    dataset = tk.Dataset("d").insert(numbered(1))
    pinned = dataset.pin()
    dataset.insert(numbered(2))
    assert (ns(pinned), len(pinned), pinned.version) == ([1], 1, dataset.versions()[0].version)
    assert tk.Dataset("d", version=pinned.version[:6]).version == pinned.version
    for change in (lambda: pinned.insert(numbered(3)), lambda: pinned.delete("i1")):
        with pytest.raises(DatasetError, match="is read-only, because it names a version"):
            change()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: tk.Dataset(""), "name='': expected the name"),
        (lambda: tk.Dataset(3), "name=3"),  # type: ignore[arg-type]
        (lambda: tk.Dataset("none", version="ab"), "there is no dataset 'none'"),
        (lambda: tk.Dataset("d", version="zz"), "has no version 'zz'"),
        (lambda: tk.Dataset("d", version=9), "no version number 9; the newest is 1"),
        (lambda: tk.Dataset("d", version="%"), "has no version '%'"),
        (lambda: tk.Dataset("d", version=""), "expected the digits of a version"),
        (lambda: tk.Dataset("d", version=True), "expected the digits of a version"),
        (lambda: tk.Dataset("none").pin(), "holds nothing; insert items first"),
        (lambda: tk.Dataset("d").get("x"), "has no item 'x'"),
        (lambda: tk.Dataset("d").select(ids=["i1", "x"]), "has no item 'x'"),
        (lambda: tk.Dataset("d").select(sample=0), "sample=0: expected a number of items"),
        (lambda: tk.Dataset("d").select(sample=1.5), "sample=1.5"),
        (lambda: tk.Dataset("d").insert({"n": 1}), "a mapping is one item"),
    ],
)
def test_bad_input_is_said_at_once(make: Any, why: str) -> None:
    tk.Dataset("d").insert(numbered(1))
    with pytest.raises(DatasetError, match=why):
        make()


def test_a_dataset_that_was_never_filled_is_empty() -> None:
    dataset = tk.Dataset("new")
    assert (len(dataset), list(dataset), dataset.version, dataset.versions(), bool(dataset)) == (0, [], "", [], True)
    assert list(dataset.select(tags="x")) == []


def test_pages_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE", 3)
    dataset = tk.Dataset("d").insert(numbered(*range(10)))
    dataset.delete(["i2", "i3", "i4", "i5", "i9"])
    assert ns(dataset) == [0, 1, 6, 7, 8]
    monkeypatch.setattr(reading, "PAGE_BYTES", 1)
    assert ns(dataset) == [0, 1, 6, 7, 8]


def test_what_is_inserted_during_an_iteration_does_not_appear_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE", 1)
    dataset = tk.Dataset("d").insert(numbered(1, 2, 3))
    reader = iter(dataset)
    first = next(reader)
    dataset.insert([{"id": "i2", "n": 20}, {"id": "i4", "n": 4}], update=True).delete("i3")
    assert [first.fields["n"], *ns(reader)] == [1, 2, 3]
    assert ns(dataset) == [1, 20, 4]


def test_selections_by_tag_split_and_id_combine() -> None:
    dataset = tk.Dataset("d").insert(
        {"id": f"i{n}", "n": n, "split": "test" if n > 5 else "train", "tags": [f"t{n % 3}"]} for n in range(10)
    )
    assert ns(dataset.select(split="test")) == [6, 7, 8, 9]
    assert ns(dataset.select(tags=["t0", "t1"], split="test")) == [6, 7, 9]
    assert ns(dataset.select(ids=["i7", "i1", "i7"])) == [1, 7]
    assert ns(dataset.select(split="test").select(ids=["i7"])) == [7]
    assert ns(dataset.select(ids=["i7", "i1"]).select(tags="t1").select(ids="i7")) == [7]
    assert len(dataset.select(split="")) == 0
    with pytest.raises(DatasetError, match="no item 'i1'"):
        dataset.select(split="test").select(ids=["i1"])


def test_a_selection_stays_at_its_version() -> None:
    dataset = tk.Dataset("d").insert(numbered(1))
    chosen = dataset.select()
    dataset.insert(numbered(2))
    assert (ns(chosen), chosen.version) == ([1], dataset.versions()[0].version)


def test_a_sample_is_the_same_each_time_and_contains_every_smaller_one() -> None:
    one = tk.Dataset("one").insert(numbered(*range(200)))
    shuffled = list(range(200))
    random.Random(1).shuffle(shuffled)
    other = tk.Dataset("other").insert(numbered(*shuffled))
    samples = [set(one.select(sample=n, seed=4).ids()) for n in (1, 10, 50, 200)]
    assert [len(sample) for sample in samples] == [1, 10, 50, 200]
    assert all(a < b for a, b in itertools.pairwise(samples))
    assert set(other.select(sample=10, seed=4).ids()) == samples[1]
    assert set(one.select(sample=10, seed=5).ids()) != samples[1]
    share = set(one.select(sample=0.25, seed=4).ids())
    assert share < set(one.select(sample=0.5, seed=4).ids())
    assert 25 <= len(share) <= 75
    assert len(one.select(sample=1.0)) == 200


def test_a_share_stays_as_it_is_when_the_dataset_grows() -> None:
    grows = tk.Dataset("grows").insert({"id": f"i{n}", "n": n} for n in range(100))
    before = set(grows.select(sample=0.2, seed=1).ids())
    grows.insert({"id": f"i{n}", "n": n} for n in range(100, 150))
    after = set(grows.select(sample=0.2, seed=1).ids())
    assert {each for each in after if int(each[1:]) < 100} == before
    assert len(after) > len(before) > 0


def test_evaluate_draws_the_sample_that_a_dataset_draws() -> None:
    rows = [{"id": f"i{n}", "n": n} for n in range(40)]
    dataset = tk.Dataset("drawn").insert(rows)
    for sample in (1, 7, 0.3, 1.0):
        wanted = list(dataset.select(sample=sample, seed=5).ids())
        assert wanted
        for data in (dataset, rows, dataset.select(sample=sample, seed=5)):
            of_list = tk.evaluate(data, lambda n: n, sample=sample, seed=5)
            assert [one.item_id for one in of_list] == wanted
    turned = tk.evaluate(rows[::-1], lambda n: n, sample=7, seed=5)
    assert {one.item_id for one in turned} == set(dataset.select(sample=7, seed=5).ids())


def test_a_difference_names_what_was_added_changed_and_removed() -> None:
    dataset = tk.Dataset("d").insert(numbered(1, 2, 3))
    dataset.insert([{"id": "i2", "n": 2, "tags": ["new"]}, {"id": "i4", "n": 4}], update=True).delete("i1")
    found = dataset.diff(1, 3)
    assert [item.id for item in found.added] == ["i4"]
    assert [(change.old.tags, change.new.tags, change.parts) for change in found.changed] == [((), ("new",), ["tags"])]
    assert [item.id for item in found.removed] == ["i1"]
    assert dataset.diff().describe() == '0 added, 0 changed, 1 removed\n- i1  {"n":1}'
    back = dataset.diff(3, 1)
    assert ([item.id for item in back.added], [item.id for item in back.removed]) == (["i1"], ["i4"])
    assert not dataset.diff(2, 2)
    assert '~ i2  tags: [] → ["new"]' in found.describe()


def test_what_was_deleted_and_came_again_is_no_difference() -> None:
    dataset = tk.Dataset("d").insert(numbered(1, 2))
    dataset.delete("i1").insert(numbered(1))
    assert not dataset.diff(1, 3)
    assert ns(dataset.pin()) == [2, 1]


def test_an_insert_of_many_batches_is_one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inserting, "BATCH", 3)
    dataset = tk.Dataset("d").insert(numbered(0)).insert(numbered(*range(10)))
    dataset.insert([*numbered(*range(8, 13)), *numbered(0, 1, 2, 3)])  # the last batches hold nothing new
    assert [(v.added, v.items, v.complete) for v in dataset.versions()] == [(1, 1, True), (9, 10, True), (3, 13, True)]


def test_an_error_in_the_middle_says_what_is_stored_and_inserting_again_adds_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inserting, "BATCH", 3)
    items: list[Any] = numbered(*range(10))
    with pytest.raises(DatasetError, match=r"item 8: n cannot be kept.*; the first 6 are stored, and inserting again"):
        tk.Dataset("d").insert([*items[:7], {"n": object()}, *items[7:]])
    assert ns(tk.Dataset("d")) == [0, 1, 2, 3, 4, 5]
    assert [v.complete for v in tk.Dataset("d").versions()] == [False]
    assert ns(tk.Dataset("d").insert(items)) == list(range(10))
    assert [v.complete for v in tk.Dataset("d").versions()] == [True]


NAMES = itertools.count()


class Histories(RuleBasedStateMachine):
    """Any history of inserts, updates and deletions against a plain dictionary, and every version of it afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.dataset = tk.Dataset(f"history {next(NAMES)}")
        self.model: dict[str, int] = {}
        self.past: list[tuple[int, dict[str, int]]] = []

    @rule(items=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=6))
    def update(self, items: list[tuple[int, int]]) -> None:
        self.dataset.insert([{"id": f"i{key}", "n": n} for key, n in items], update=True)
        self.model |= {f"i{key}": n for key, n in items}
        self.remember()

    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        if self.model:
            gone = data.draw(st.lists(st.sampled_from(sorted(self.model)), unique=True))
            self.dataset.delete(gone)
            self.model = {key: n for key, n in self.model.items() if key not in gone}
            self.remember()

    def remember(self) -> None:
        versions = self.dataset.versions()
        if versions:
            self.past.append((versions[-1].number, dict(self.model)))

    @invariant()
    def it_holds_what_the_model_holds_and_every_version_what_it_held(self) -> None:
        assert {item.id: item.fields["n"] for item in self.dataset} == self.model
        assert len(self.dataset) == len(self.model)
        for number, held in self.past:
            old = tk.Dataset(self.dataset.name, version=number)
            by_content = {item.id: item.fields["n"] for item in old}
            assert by_content == held
            assert len(old) == len(held)

    @invariant()
    def a_version_is_named_by_its_content(self) -> None:
        by_content: dict[str, dict[str, int]] = {}
        for number, held in self.past:
            version = tk.Dataset(self.dataset.name, version=number).version
            assert by_content.setdefault(version, held) == held


def test_any_history_can_be_read_again() -> None:
    Histories.TestCase.settings = settings(
        max_examples=25, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck)
    )
    Histories.TestCase("runTest").runTest()


def test_no_page_and_no_batch_reads_more_of_the_table_than_it_needs(keeper: Any) -> None:
    tk.Dataset("d").insert(numbered(*range(50)))
    same = new_item(tk.Dataset("d").get("i1"))
    store = keeper.store()
    seen: list[str] = []
    with store.write() as connection:
        driver = driver_of(connection)
        driver.set_trace_callback(seen.append)
        store_changes.put(connection, "d", [same], replace=False, whole=True, now=0)
        reading.items(connection, 1, 1, 10)
        reading.keys(connection, 1, 1, 10, ["i20"])
        driver.set_trace_callback(None)
        reads = [text for text in seen if text.startswith("SELECT") and "dataset_item" in text]
        plans = [row[3] for text in reads for row in driver.execute(f"EXPLAIN QUERY PLAN {text}").fetchall()]
    assert len(reads) == 3
    assert all("SCAN" not in plan for plan in plans), plans
    assert any("dataset_item_present" in plan for plan in plans), plans
    assert any("dataset_item_place" in plan for plan in plans), plans
