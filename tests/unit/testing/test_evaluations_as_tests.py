"""The pytest plugin's evaluations: a test for each item, one aggregated test, workers of pytest-xdist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import programs

import tracekeeper as tk
from tracekeeper.testing import temporary_keeper

CASES = """
import os, pathlib, pytest

ITEMS = [{"id": name, "question": name, "expected": name.upper()} for name in ("ann", "bob", "cid", "dan")]

def shout(question):
    with open("calls.txt", "a") as file:
        file.write(f"{question}\\n")
    if question == os.environ.get("BROKEN"):
        raise KeyError(question)
    return "?" if question == os.environ.get("WRONG") else question.upper()

@pytest.mark.tracekeeper_evaluate(ITEMS, shout, metrics=["exact_match"], name="each")
def test_each(tracekeeper_result):
    assert tracekeeper_result.scores["exact_match"].value is True
"""

WHOLE = """
def shout(question):
    if question == "bob":
        raise KeyError(question)
    return question.upper()

def test_quality(tracekeeper_evaluate):
    items = [{"id": "ann", "question": "ann"}, {"id": "bob", "question": "bob"}]
    experiment = tracekeeper_evaluate(items, shout, name="whole")
    experiment.raise_for_failures()
"""


def pytest_in(folder: Path, code: str, *words: str, **environment: str) -> tuple[int, str]:
    (folder / "test_it.py").write_text(code, encoding="utf-8")
    if "-n" not in words:  # the plugins of others take a second to import
        environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}
        words = ("-p", "tracekeeper.testing.pytest_plugin", *words)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--strict-markers", *words]
    done = subprocess.run(
        [*command, "--basetemp", str(folder / "temporary")],
        cwd=folder,
        env=programs.environment(TRACEKEEPER_DIRECTORY=str(folder / "data"), **environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def calls_in(folder: Path) -> list[str]:
    return sorted((folder / "calls.txt").read_text().split())


def stored(folder: Path, name: str) -> tk.Experiment:
    with temporary_keeper(folder / "data"):
        return tk.Experiment.load(name)


def test_each_item_is_a_test_and_all_are_one_experiment(tmp_path: Path) -> None:
    code, out = pytest_in(tmp_path, CASES, "-vv", WRONG="bob", BROKEN="cid")
    assert code == 1
    assert "2 passed" in out
    assert re.search(r"test_each\[ann\] PASSED", out)
    assert re.search(r"test_each\[bob\] FAILED", out)
    assert re.search(r"test_each\[cid\] ERROR", out)
    assert "exact_match: False" in out  # among the sections that a failed test shows
    assert "KeyError: 'cid'" in out
    experiment = stored(tmp_path, "each")
    assert [str(one.status) for one in experiment] == ["ok", "ok", "error", "ok"]
    assert calls_in(tmp_path) == ["ann", "bob", "cid", "dan"]


def test_only_the_items_of_selected_tests_are_called(tmp_path: Path) -> None:
    assert pytest_in(tmp_path, CASES, "-k", "bob or dan")[0] == 0
    assert calls_in(tmp_path) == ["bob", "dan"]


@pytest.mark.slow
def test_workers_of_xdist_make_one_experiment(tmp_path: Path) -> None:
    code, out = pytest_in(tmp_path, CASES, "-n", "2")
    assert (code, "4 passed" in out) == (0, True)
    assert calls_in(tmp_path) == ["ann", "bob", "cid", "dan"]
    with temporary_keeper(tmp_path / "data") as keeper:
        assert keeper.ship() is None  # what workers may not have had the time to store as they left is theirs to find
        assert [one.name for one in keeper.store().experiments()] == ["each"]


def test_one_test_of_the_whole_shows_the_summary_when_it_fails(tmp_path: Path) -> None:
    code, out = pytest_in(tmp_path, WHOLE)
    assert code == 1
    assert "whole: 1 of 2 calls failed" in out
    assert "tracekeeper" in out
    assert re.search(r"calls +1 ok, 1 error", out)
    assert len(stored(tmp_path, "whole")) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ('metrics=["exact_match"]', 'metric=["exact_match"]'),
            "evaluate has no option metric=; did you mean metrics=?",
        ),
        (
            ("ITEMS, shout, metrics", "shout, metrics"),
            "expected @pytest.mark.tracekeeper_evaluate(data, task, metrics=[…])",
        ),
        (("ITEMS, shout", "'none.jsonl', shout"), "none.jsonl: No such file or directory"),
        (("def test_each(tracekeeper_result)", "def test_each()"), "this test has no such argument"),
        (
            ("(ITEMS, shout", "([], shout"),
            "test_it.py::test_each: there are no items to evaluate: the dataset is empty",
        ),
    ],
)
def test_a_mark_that_cannot_work_is_an_error_of_collection(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    code, out = pytest_in(tmp_path, CASES.replace(*change))
    assert code == 2
    assert said in out
    assert not (tmp_path / "calls.txt").exists()
