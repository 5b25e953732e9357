"""Finding a metric again: importable ones come back as they were, local ones say that they are local."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from tracekeeper import metrics
from tracekeeper.judging import metric, resolve, restore, select
from tracekeeper.types import MetricError

MODULE = """
from dataclasses import dataclass, field
import functools
import tracekeeper.judging as tk

def cites(output, context, limit=1):
    return any(document in output for document in context)

@tk.metric(timeout=5, name="brief")
def short(output):
    return len(output) < 3

loose = tk.metric(cites, timeout=9)

@dataclass(frozen=True)
class AtLeast:
    low: int = 3
    def __call__(self, output):
        return len(output) >= self.low

class Plain:
    def __init__(self, low, words=()):
        self.low, self.words = low, words
    def __call__(self, output):
        return len(output) >= self.low
    def method(self, output):
        return 1
    @staticmethod
    def static(output):
        return 1
    @classmethod
    def of_class(cls, output):
        return 1

class Derived:
    def __init__(self, path):
        self.words = [path]
    def __call__(self, output):
        return 1

@dataclass
class Holds:
    client: object = None
    def __call__(self, output):
        return 1

def outer():
    def inner(output):
        return 1
    return inner

anonymous = lambda output: 1
renamed = cites
def replaced(output):
    return 1
original = replaced
def replaced(output):
    return 2
"""


@pytest.fixture
def judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "some_judges.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    yield importlib.import_module("some_judges")
    sys.modules.pop("some_judges", None)


def test_what_is_importable(judges: Any) -> None:
    found = {
        "function": metric(judges.cites),
        "decorated": judges.short,
        "wrapped": judges.loose,
        "dataclass": metric(judges.AtLeast(4)),
        "object": metric(judges.Plain(4, ["a"])),
        "partial": metric(partial(judges.cites, limit=2)),
        "static": metric(judges.Plain.static),
        "class method": metric(judges.Plain.of_class),
    }
    assert {kind: one.import_path for kind, one in found.items()} == {
        "function": "some_judges:cites",
        "decorated": "some_judges:short",
        "wrapped": "some_judges:cites",
        "dataclass": "some_judges:AtLeast",
        "object": "some_judges:Plain",
        "partial": "some_judges:cites",
        "static": "some_judges:Plain.static",
        "class method": "some_judges:Plain.of_class",
    }
    assert dict(found["dataclass"].parameters) == {"low": 4}


def test_what_is_local(judges: Any) -> None:
    class Here:
        def __call__(self, output: str) -> int:
            return 1

    main = lambda output: 1  # noqa: E731
    main.__module__, main.__qualname__ = "__main__", "main"
    for function in (
        judges.anonymous,
        judges.outer(),
        judges.original,
        judges.Plain(1).method,
        judges.Plain(object()),
        judges.Derived("x"),
        judges.Holds(object()),
        partial(judges.cites, 1),
        partial(judges.cites, context=[object()]),
        Here(),
        main,
    ):
        made = metric(function)
        assert made.import_path is None, function
        assert made.local


def test_a_module_made_by_hand_is_local() -> None:
    module = ModuleType("by_hand")
    exec("def judge(output): return 1", module.__dict__)
    sys.modules["by_hand"] = module
    try:
        assert metric(module.judge).import_path is None
    finally:
        del sys.modules["by_hand"]


def test_restored_as_it_was(judges: Any) -> None:
    for made in (
        metric(judges.cites, timeout=5, retries=2, range=(0, 1), direction="maximize", sample=0.5),
        judges.short,
        metric(judges.AtLeast(4), version="7", names=["a"]),
        metric(partial(judges.cites, limit=2)).on(context=select.spans(kind="retriever", collect=True)),
        metric(judges.cites, mode="deferred", source="llm", requires=["x"], accept_cut=True),
        metrics.OverlapGroundedness(threshold=0.5, timeout=5),
        metrics.Contains(["a", "b"]),
        metrics.Pii(kinds=["email"], result="clean"),
        metrics.Length("words", max=5),
    ):
        definition = made.definition()
        assert (definition.kind, definition.name, definition.version) == ("metric", made.name, made.version)
        data = msgspec.json.decode(definition.data)
        back = restore(data)
        assert type(back) is type(made)
        assert back.description() == made.description()
        assert back.definition() == definition


def test_a_local_metric_cannot_be_restored() -> None:
    made = metric(lambda output: 1)
    assert json.loads(made.definition().data)["import_path"] is None
    with pytest.raises(MetricError, match="is local"):
        restore(made.description())


class TestResolve:
    def test_a_function_a_metric_and_a_class(self, judges: Any) -> None:
        assert resolve("some_judges:cites").function is judges.cites
        assert resolve("some_judges:short") is judges.short
        assert resolve("some_judges:AtLeast", {"low": 9}).function == judges.AtLeast(9)
        assert resolve("some_judges:cites", {"limit": 9}).name == "cites"

    @pytest.mark.parametrize(
        ("path", "parameters", "says"),
        [
            ("some_judges:cite", {}, "did you mean 'some_judges:cites'"),
            ("some_jugdes:cites", {}, "does not import"),
            ("some_judges", {}, "is not an import path"),
            (":x", {}, "is not an import path"),
            ("some_judges:AtLeast", {"hi": 1}, "unexpected keyword argument 'hi'"),
            ("some_judges:__name__", {}, "not callable"),
        ],
    )
    def test_a_miss(self, judges: Any, path: str, parameters: dict[str, Any], says: str) -> None:
        with pytest.raises(MetricError, match=says):
            resolve(path, parameters)

    def test_a_module_that_raises(self, tmp_path: Path, judges: Any) -> None:
        (tmp_path / "breaks.py").write_text("1 / 0")
        with pytest.raises(MetricError, match="importing 'breaks' raised ZeroDivisionError"):
            resolve("breaks:x")


class TestBuiltInNames:
    @pytest.mark.parametrize("name", ["exact_match", "ExactMatch", "exact-match", "Exact_Match"])
    def test_bare_names(self, name: str) -> None:
        assert isinstance(metrics.resolve(name), metrics.ExactMatch)

    def test_every_built_in_resolves_to_itself(self) -> None:
        for bare, name in metrics.built_in_names().items():
            made = metrics.resolve(bare)
            assert type(made) is getattr(metrics, name)
            assert made.name == bare
            assert made.import_path == f"tracekeeper.metrics:{name}"

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("exat_match", "did you mean 'exact_match'"),
            ("groundedness", "use 'overlap_groundedness'"),
            ("AnswerRelevance", "use 'overlap_answer_relevance'"),
            ("zzz", "there are: contains"),
        ],
    )
    def test_a_miss(self, name: str, says: str) -> None:
        with pytest.raises(MetricError, match=says):
            metrics.resolve(name)

    def test_an_import_path(self, judges: Any) -> None:
        assert metrics.resolve("some_judges:cites").function is judges.cites
