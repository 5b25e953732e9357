"""``evaluate`` over a stored dataset: which version it was, and what a resume of a part of it runs."""

from __future__ import annotations

from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.store.datasets.dataset_store import DatasetStore
from tracekeeper.store.datasets.rows import ItemRow


@pytest.fixture(autouse=True)
def _own_data(keeper: object) -> None:
    """A database of the test's own."""


def filled() -> tk.Dataset:
    return tk.Dataset("d").insert({"id": f"i{n}", "n": n, "split": "test" if n < 4 else "train"} for n in range(6))


def test_an_experiment_names_the_dataset_and_its_version_also_of_a_selection() -> None:
    dataset = filled()
    whole = tk.evaluate(dataset, lambda n: n)
    part = tk.evaluate(dataset.select(split="test"), lambda n: n)
    for experiment, size in ((whole, 6), (part, 4)):
        assert (experiment.facts.dataset, experiment.facts.dataset_version) == ("d", dataset.version)
        assert [item.output for item in experiment] == list(range(size))


def test_a_resume_of_a_selection_runs_nothing_that_was_not_selected() -> None:
    dataset = filled()
    first = tk.evaluate(dataset.select(split="test"), lambda n: n)
    dataset.insert([{"id": "new", "n": 7, "split": "test"}])
    calls: list[int] = []
    again = tk.resume(first.id, task=lambda n: calls.append(n) or n)
    assert calls == []
    assert [item.item_id for item in again] == ["i0", "i1", "i2", "i3"]


def test_items_and_version_are_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = filled()
    before = dataset.version
    read = DatasetStore.items

    def growing(store: DatasetStore, *args: Any) -> list[ItemRow]:
        monkeypatch.setattr(DatasetStore, "items", read)
        tk.Dataset("d").insert([{"id": "new", "n": 7}])  # somebody inserts while the items are read
        return read(store, *args)

    monkeypatch.setattr(DatasetStore, "items", growing)
    experiment = tk.evaluate(dataset, lambda n: n)
    assert len(experiment.items) == 6
    assert experiment.facts.dataset_version == before
    assert len(dataset) == 7
