"""``tracekeeper evaluate``: what it prints, its exit codes, and what a mistake is answered with."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.support import programs
from tests.unit.cli.conftest import Run

import tracekeeper as tk

APP = """
calls = []

def answer(question):
    calls.append(question)
    if question == "broken":
        raise KeyError("broken")
    return question.upper()

async def later(question):
    return answer(question)

def wrong(question):
    return "?"

NUMBER = 7

def is_long(output) -> bool:
    return len(output) > 2

def kind(output) -> str:
    return "text"

def share_of_ok(results) -> float:
    return sum(item.ok for item in results) / len(results)

async def enough(results):
    return len(results) > 30, "more than 30 calls"

def fragile(results):
    raise ZeroDivisionError("none")
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module ``ci_app`` in the working directory, and datasets of 40 items."""
    (tmp_path / "ci_app.py").write_text(APP, encoding="utf-8")
    rows = [{"id": f"q{n}", "question": f"item {n}", "expected": f"ITEM {n}"} for n in range(40)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("ci_app", None)
    import ci_app

    yield ci_app
    sys.modules.pop("ci_app", None)


def evaluate(run: Run, *words: str, task: str = "ci_app:answer", dataset: str = "d.jsonl") -> Any:
    return run("evaluate", task, "--dataset", dataset, "--no-progress", *words)


def test_a_run_is_printed_stored_written_and_passes(run: Run, app: Any, tmp_path: Path) -> None:
    found = evaluate(
        *(run, "--metric", "ExactMatch", "--metric", "ci_app:is_long", "--fail-under", "ExactMatch=80%"),
        *("--name", "main", "--version", "7", "--repeats", "2", "--junit", "out/r.xml", "--html", "out/r.html"),
        *("--json", "out/r.json", "--markdown", "out/r.md"),
    )
    assert (found.code, found.err) == (0, "")
    assert "main: answer 7 · 40 items, 80 calls" in found.out
    assert "passed: exact_match is 100.0 %" in found.out
    assert found.out.count("written: out/r.") == 4
    assert len(app.calls) == 80
    stored = tk.Experiment.load("main")
    assert (len(stored), stored.complete, stored.metric_names) == (80, True, ["exact_match", "is_long"])
    suite = ElementTree.parse(tmp_path / "out" / "r.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("83", "0", "0")
    assert [one.get("tests") for one in suite] == ["80", "3"]
    assert json.loads((tmp_path / "out" / "r.json").read_text())["experiment"]["id"] == stored.id


def test_a_mean_below_its_threshold_is_exit_code_1(run: Run, app: Any) -> None:
    found = evaluate(run, "--metric", "exact_match", "--fail-under", "exact_match=0.8", task="ci_app:wrong")
    assert found.code == 1
    assert re.search(r"^FAILED: exact_match is 0.0 % .*, below 80.0 %$", found.out, re.MULTILINE)


def test_a_call_that_failed_is_exit_code_3_unless_it_may(run: Run, app: Any, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"question": "fine"}\n{"question": "broken"}\n')
    found = evaluate(run)
    assert found.code == 3
    assert "FAILED: 1 of 2 calls failed" in found.out
    assert evaluate(run, "--max-failures", "1", task="ci_app:later").code == 0


def test_a_regression_fails_only_when_it_is_more_than_noise(run: Run, app: Any, monkeypatch: Any) -> None:
    assert evaluate(run, "--metric", "exact_match", "--name", "main", "--json", "main.json").code == 0
    again = ("--metric", "exact_match", "--max-regression", "0.02")
    monkeypatch.setattr(app, "answer", lambda question: "?" if question == "item 3" else question.upper())
    noise = evaluate(run, *again, "--baseline", "main", "--name", "noise")
    assert noise.code == 0
    assert "worse by 2.5 %, more than the allowed 2.0 %, but within noise" in noise.out
    for baseline in ("main", tk.Experiment.load("main").id, "main.json"):
        worse = evaluate(run, *again, "--baseline", baseline, task="ci_app:wrong")
        assert worse.code == 1
        assert "worse by 100.0 %, more than the allowed 2.0 % and more than noise (p <" in worse.out


def test_every_gate_is_a_test_of_the_junit_file_that_fails_as_it_does(run: Run, app: Any, tmp_path: Path) -> None:
    assert evaluate(run, "--metric", "exact_match", "--name", "main").code == 0
    gates = ("--fail-under", "exact_match=80%", "--baseline", "main", "--max-regression", "0.02", "--junit", "r.xml")
    found = evaluate(run, "--metric", "exact_match", "--name", "now", *gates, task="ci_app:wrong")
    assert found.code == 1
    root = ElementTree.parse(tmp_path / "r.xml").getroot()
    calls, suite = root.findall("testsuite")
    assert (calls.get("name"), suite.get("name")) == ("now", "now: gates")
    assert (calls.get("failures"), suite.get("failures"), root.get("failures")) == ("0", "2", "2")
    assert (calls.get("tests"), suite.get("tests"), root.get("tests")) == ("40", "4", "44")
    wrong = {case.get("name"): case.find("failure") for case in suite.findall("testcase")}
    assert [name for name, failure in wrong.items() if failure is not None] == [
        "exact_match: fail_under",
        "exact_match: max_regression",
    ]
    assert [name for name, failure in wrong.items() if failure is None] == ["complete", "failures"]
    said = [f"FAILED: {failure.get('message')}" for failure in wrong.values() if failure is not None]
    assert said == [line for line in found.out.splitlines() if line.startswith("FAILED")], "in the same words"


def test_metrics_of_the_run_as_a_whole_are_printed_stored_and_written(run: Run, app: Any, tmp_path: Path) -> None:
    of_run = [f"--experiment-metric=ci_app:{name}" for name in ("share_of_ok", "enough", "fragile")]
    files = ("--json", "r.json", "--html", "r.html", "--markdown", "r.md")
    found = evaluate(run, "--metric", "exact_match", "--name", "whole", *of_run, *files)
    assert found.code == 0
    said = {name: re.search(rf"{name} \(whole run\) +(.+)", found.out) for name in ("share_of_ok", "enough", "fragile")}
    assert {name: one and one[1].strip() for name, one in said.items()} == {
        "share_of_ok": "1.00",
        "enough": "true: more than 30 calls",
        "fragile": "failed: the metric raised ZeroDivisionError: none",
    }
    scores = tk.Experiment.load("whole").scores
    assert {name: (one.status, one.value) for name, one in scores.items()} == {
        "share_of_ok": ("scored", 1.0),
        "enough": ("scored", True),
        "fragile": ("failed", None),
    }
    assert {name: one["value"] for name, one in json.loads(Path("r.json").read_text())["scores"].items()} == {
        "share_of_ok": 1.0,
        "enough": True,
        "fragile": None,
    }
    assert "- enough (whole run): true: more than 30 calls" in Path("r.md").read_text()
    assert "<dt>enough (whole run)</dt><dd>true: more than 30 calls</dd>" in Path("r.html").read_text()
    again = evaluate(run, "--metric", "exact_match", "--resume", "whole", *of_run)
    assert "share_of_ok (whole run)" in again.out


def test_without_a_verdict_the_junit_file_has_the_calls_alone(run: Run, app: Any, tmp_path: Path) -> None:
    assert evaluate(run, "--metric", "ci_app:kind", "--fail-under", "kind=1", "--junit", "r.xml").code == 2
    assert [one.get("tests") for one in ElementTree.parse(tmp_path / "r.xml").getroot()] == ["40"]


def test_a_metric_may_have_a_limit_of_its_own(run: Run, app: Any) -> None:
    metrics = ("--metric", "exact_match", "--metric", "ci_app:is_long")
    evaluate(run, *metrics, "--name", "main")
    found = evaluate(run, *metrics, "--baseline", "main", "--max-regression", "is_long=0", task="ci_app:wrong")
    assert found.code == 1
    assert "FAILED: is_long is worse by 100.0 %" in found.out
    assert "exact_match is worse" not in found.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--metric", "exact_mach"), "did you mean 'exact_match'?"),
        (("--metric", "ci_app:is_lon"), "did you mean 'ci_app:is_long'?"),
        (("--metric", "exact_match", "--fail-under", "exact_mach=1"), "did you mean 'exact_match'?"),
        (("--metric", "exact_match", "--fail-under", "0.8"), "of which metric? write --fail-under NAME=0.8"),
        (("--metric", "exact_match", "--fail-under", "exact_match=x"), "is no limit"),
        (("--metric", "exact_match", "--max-regression=-1"), "cannot be negative"),
        (("--metric", "exact_match", "--max-regression", "1", "--max-regression", "exact_match=1"), "not both"),
        (("--fail-under", "exact_match=1"), "the run has no metrics; name them by --metric"),
        (("--baseline", "none.json"), "there is no such file (a first run goes without --baseline)"),
        (("--baseline", "d.jsonl"), "--baseline d.jsonl: "),
        (("--baseline", "mian"), "there is no experiment 'mian'"),
        (("--resume", "mian"), "there is no experiment 'mian'"),
        (("--resume", "main", "--repeats", "2"), "--repeats is for a new run"),
        (("--rerun-failures", "mian"), "there is no experiment 'mian'"),
        (
            ("--rerun-failures", "main", "--sample", "2"),
            "--sample is for a new run; --rerun-failures goes on",
        ),
        (("--rerun-failures", "main", "--resume", "main"), "give one of them"),
        (
            ("--rerun-failures", "main", "--outcomes", "failed"),
            "'failed': expected some of error, timed_out",
        ),
        (("--outcomes", "error"), "--outcomes says what --rerun-failures calls again"),
        (("--map", "reference"), "expected NAME=VALUE"),
        (("--experiment-metric", "exact_match"), "--experiment-metric exact_match: expected module:name of a function"),
        (("--experiment-metric", "ci_app:enouh"), "enough"),
        (("--experiment-metric", "ci_app:enough", "--experiment-metric", "ci_app:enough"), "two are named 'enough'"),
        (("--map", "reference=gold"), "no metric has an argument 'reference'"),
        (("--junit", "."), "expected a file to write, this is a folder"),
        (("--sample", "1.5"), "expected a number of items, or a share of them"),
        (("--budget", "-3"), "expected US dollars"),
        (("--retries", "-3"), "expected a whole number, 0 or more"),
        (("--max-failure", "3"), "did you mean --max-failures?"),
    ],
)
def test_a_mistake_is_said_before_the_first_call(words: tuple[str, ...], said: str, run: Run, app: Any) -> None:
    found = evaluate(run, *words)
    assert (found.code, found.out) == (2, "")
    assert said in found.err
    assert found.err.count("\n") == 1
    assert app.calls == []


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("ci_app", "expected module:name"),
        ("ci_ap:answer", "did you mean 'ci_app'?"),
        ("ci_app:anser", "did you mean 'ci_app:answer'?"),
        ("ci_app:NUMBER", "it is a int, which cannot be called"),
        ("ci_app.py:answer", "as in ci_app:answer"),
    ],
)
def test_a_task_that_is_not_there_is_named_with_the_nearest(task: str, said: str, run: Run, app: Any) -> None:
    found = evaluate(run, task=task)
    assert (found.code, found.out) == (2, "")
    assert said in found.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ('{"question": "a"}\n{"question": \n', "line 2: not JSON"),
        ('{"id": "a", "question": "a"}\n{"id": "a", "question": "b"}\n', "items 1 and 2 have the same id, 'a'"),
        ("[]", "there are no items in it"),
    ],
)
def test_a_dataset_that_is_none_is_refused(text: str, said: str, run: Run, app: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(text)
    found = evaluate(run, dataset="bad.jsonl")
    assert (found.code, found.out) == (2, "")
    assert said in found.err
    assert app.calls == []


def test_a_metric_of_labels_has_no_threshold(run: Run, app: Any) -> None:
    found = evaluate(run, "--metric", "ci_app:kind", "--fail-under", "kind=1")
    assert found.code == 2
    assert "kind gives labels" in found.err
    assert "40 ok" in found.out


WAITING = """
import sys, threading, pathlib

done = []
lock = threading.Lock()

def answer(number):
    with lock:
        done.append(number)
        with open("calls.txt", "a") as file:
            file.write(f"{number}\\n")
    if int(number) >= 3 and not pathlib.Path("go").exists():
        print("waiting", flush=True)
        threading.Event().wait(30)
    return number
"""


def test_after_ctrl_c_the_line_it_prints_does_the_rest(tmp_path: Path) -> None:
    (tmp_path / "slow_app.py").write_text(WAITING)
    (tmp_path / "d.csv").write_text("id,number\n" + "".join(f"i{n},{n}\n" for n in range(6)))
    command = [sys.executable, "-m", "tracekeeper", "evaluate", "slow_app:answer", "--dataset", "d.csv"]
    child = subprocess.Popen(
        [*command, "--concurrency", "1", "--json", "partial.json"],
        cwd=tmp_path,
        env=programs.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "waiting\n"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "have not ended" in out
    partial = json.loads((tmp_path / "partial.json").read_text())
    assert [item["status"] for item in partial["items"]][:3] == ["ok", "ok", "ok"]
    [line] = re.findall(r"the rest: tracekeeper (.*)$", err, re.MULTILINE)
    assert "--concurrency" not in line
    assert "--resume" in line
    (tmp_path / "go").touch()
    before = (tmp_path / "calls.txt").read_text().split()
    rest = subprocess.run(
        [sys.executable, "-m", "tracekeeper", *line.split()],
        cwd=tmp_path,
        env=programs.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (rest.returncode, "6 ok" in rest.stdout) == (0, True)
    after = (tmp_path / "calls.txt").read_text().split()[len(before) :]
    assert sorted(after) == ["3", "4", "5"]


def test_a_filter_chooses_the_items(run: Run, app: Any) -> None:
    assert evaluate(run, "--filter", 'input ~ "item 1" and id != q1').code == 0
    assert len(app.calls) == 10
    app.calls.clear()
    wrong = evaluate(run, "--filter", "question = x")
    assert (wrong.code, app.calls) == (2, [])
    assert "write input.question" in wrong.err


def test_what_failed_is_called_again_and_the_gates_look_at_all_of_it(
    run: Run, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = app.answer

    def flaky(question: str) -> str:
        if question in ("item 3", "item 5"):
            raise ConnectionError(question)
        return str(original(question))

    monkeypatch.setattr(app, "answer", flaky)
    assert evaluate(run, "--metric", "exact_match", "--name", "main").code == 3
    monkeypatch.setattr(app, "answer", original)
    app.calls.clear()
    nothing = evaluate(run, "--metric", "exact_match", "--rerun-failures", "main", "--outcomes", "timed_out")
    assert (nothing.code, app.calls) == (3, [])
    found = evaluate(run, "--metric", "exact_match", "--rerun-failures", "main", "--fail-under", "exact_match=1")
    assert (found.code, sorted(app.calls)) == (0, ["item 3", "item 5"])
    assert "passed: all 40 calls have ended" in found.out


def test_a_stored_dataset_is_evaluated_by_its_name(app: Any, run: Run) -> None:
    tk.Dataset("capitals").insert([{"question": "paris", "expected": "PARIS"}])
    result = evaluate(run, "--metric", "exact_match", dataset="capitals")
    assert result.code == 0, result.err
    assert tk.Experiment.load("answer").facts.dataset == "capitals"
    wrong = evaluate(run, dataset="capitols")
    assert wrong.code == 2
    assert "there is no such file or stored dataset; did you mean 'capitals'?" in wrong.err
