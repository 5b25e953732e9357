"""What a worker can compute, and the one sentence for what it cannot."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tracekeeper.judging import metric
from tracekeeper.metrics import Length
from tracekeeper.scoring.worker.abilities import WorkerAbilities
from tracekeeper.scoring.worker.importing import import_modules
from tracekeeper.types import MetricError

MODULE = """
import os
from os.path import basename
import tracekeeper as tk

def length(output):
    return len(output)

def other(output):
    return 1

class Home:
    @staticmethod
    def inner(output):
        return 1

@tk.metric(names=["a", "b"])
def pair(output):
    return {"a": 1, "b": 2}
"""


class Row(NamedTuple):
    id: int
    name: str
    version: str
    data: str


class Definitions:
    """A store that has nothing but definitions."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, description: dict[str, Any], **changes: Any) -> tuple[str, str]:
        data = {**description, **changes}
        self.rows.append(Row(len(self.rows) + 1, data["name"], data["version"], json.dumps(data)))
        return data["scores"][0], data["version"]

    def metric_definitions(self, after: int = 0) -> list[Row]:
        return [row for row in self.rows if row.id > after]


@pytest.fixture
def store() -> Definitions:
    return Definitions()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "jury").mkdir()
    (tmp_path / "jury" / "__init__.py").write_text("")
    (tmp_path / "jury" / "rules.py").write_text(MODULE)
    (tmp_path / "broken_jury.py").write_text("import a_package_that_is_not_there")
    monkeypatch.syspath_prepend(str(tmp_path))
    import jury.rules  # type: ignore[import-not-found]

    yield jury.rules
    for name in [name for name in sys.modules if name.split(".")[0] in ("jury", "broken_jury")]:
        del sys.modules[name]


def looked(abilities: WorkerAbilities, store: Definitions) -> WorkerAbilities:
    """After it has made everything there is."""
    changed = threading.Semaphore(0)
    abilities.changed = changed.release
    before = set(abilities._seen)
    abilities.metrics(store)  # type: ignore[arg-type]
    for _ in set(abilities._seen) - before:
        assert changed.acquire(timeout=20)
    assert not abilities.loading
    return abilities


def test_a_metric_is_made_again_with_its_options_and_parameters(store: Definitions, module: Any) -> None:
    ours = store.add(metric(module.length, timeout=3, retries=2).description())
    both = store.add(module.pair.description())
    built_in = store.add(Length(unit="words").description())
    abilities = looked(WorkerAbilities(["jury.rules"]), store)
    assert (abilities.can[ours].timeout, abilities.can[ours].retries) == (3, 2)
    assert abilities.can[both] is abilities.can["pair.b", both[1]]
    assert abilities.can[built_in].parameters["unit"] == "words"
    assert abilities.cannot == {}


def test_a_package_stands_for_the_modules_in_it(store: Definitions, module: Any) -> None:
    key = store.add(metric(module.length).description())
    assert key in looked(WorkerAbilities(["jury"]), store).can


def test_new_definitions_are_looked_at_as_they_come(store: Definitions, module: Any) -> None:
    abilities = looked(WorkerAbilities(["jury"]), store)
    assert abilities.can == {}
    key = store.add(metric(module.length).description())
    assert key in looked(abilities, store).can


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": "old"}, "jury.rules:length has changed (version {now} here, old wanted)"),
        ({"import_path": None}, "only the process that made it can compute it"),
        ({"import_path": "os:getcwd"}, "os:getcwd is in a module that was not named; start a worker with --import os"),
        (
            {"import_path": "jury.rules:lenght"},
            "metric 'jury.rules:lenght': 'jury.rules' has no 'lenght'; did you mean 'jury.rules:length'?",
        ),
        (
            {"import_path": "jury.missing:length"},
            "metric 'jury.missing:length': module 'jury.missing' does not import: No module named 'jury.missing'",
        ),
        ({"import_path": "jury.rules:os.getcwd"}, "jury.rules:os.getcwd leads into another module"),
        ({"import_path": "jury.rules:basename"}, "jury.rules:basename is defined in posixpath"),
        ({"needs_live": True}, "jury.rules:length needs the objects of the call itself"),
        ({"requires": ["no_such_thing"]}, "jury.rules:length needs no_such_thing, which is not here"),
    ],
)
def test_why_something_cannot_be_computed_is_said_in_a_sentence(
    store: Definitions, module: Any, changes: dict[str, Any], reason: str
) -> None:
    made = metric(module.length)
    key = store.add(made.description(), **changes)
    abilities = looked(WorkerAbilities(["jury"]), store)
    assert abilities.can == {}
    assert reason.format(now=made.version) in abilities.cannot[key]


def test_what_is_required_may_be_installed_or_said_to_be_there(store: Definitions, module: Any) -> None:
    key = store.add(metric(module.length, requires=["msgspec", "xml.dom", "gpt-9"]).description())
    assert "needs gpt-9" in looked(WorkerAbilities(["jury"]), store).cannot[key]
    assert key in looked(WorkerAbilities(["jury"], have=["gpt-9"]), store).can


def test_modules_are_imported_and_named(module: Any) -> None:
    assert import_modules(["jury.rules", "jury", "jury.rules:length", "jury"]) == ["jury.rules", "jury"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "jurry",
            "there is no module 'jurry' in the working directory or among the installed ones; did you mean 'jury'?",
        ),
        ("jury.rulez", "there is no module 'rulez' in 'jury'; did you mean 'jury.rules'?"),
        ("jury.rules.more", "'jury.rules' is a module, not a package, so it has no 'more' in it"),
        ("jury.rules:lenght", "'jury.rules' has no 'lenght'; did you mean 'jury.rules:length'?"),
        ("broken_jury", "importing it raised ModuleNotFoundError: No module named 'a_package_that_is_not_there'"),
        ("jury/rules.py", "expected the name of a module, as in --import jury.rules"),
        ("", "expected the name of a module"),
    ],
)
def test_a_module_that_is_not_there_is_named_with_the_nearest(module: Any, path: str, message: str) -> None:
    with pytest.raises(MetricError) as refused:
        import_modules([path])
    assert message in str(refused.value)
