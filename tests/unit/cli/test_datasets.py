"""``tracekeeper datasets``: each action, and what is answered to a mistake."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run

import tracekeeper as tk


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "capitals.csv"
    path.write_text("question,answer,tags\ncapital of France?,Paris,europe\nbroken\ncapital of Peru?,Lima,america\n")
    return path


def test_a_file_is_imported_shown_exported_and_compared(run: Run, file: Path, tmp_path: Path) -> None:
    made = run("datasets", "import", "capitals", str(file), "--rename", "answer=expected", "--split", "test")
    assert made.code == 1  # a line was left out
    assert made.err == "line 3: 1 fields where the header has 3\n"
    assert "2 items added, 0 changed, 0 there already; dataset 'capitals' has 2 items, version " in made.out
    again = run("datasets", "import", "capitals", str(file), "--rename", "answer=expected", "--split", "test")
    assert "0 items added, 0 changed, 2 there already" in again.out

    tk.Dataset("capitals").insert([{"id": "it", "question": "capital of Italy?", "expected": "Rome", "split": "train"}])
    shown = run("datasets", "show", "capitals", "--limit", "2").out
    assert "fields   question, expected" in shown
    assert "tags     europe (1), america (1)" in shown
    assert "splits   test (2), train (1)" in shown
    assert "+1 ~0 -0" in shown
    assert '"question":"capital of Peru?"' in shown
    assert "… and 1 more" in shown
    assert "capitals" in run("datasets").out
    assert run("datasets", "diff", "capitals").out.startswith("1 added, 0 changed, 0 removed\n+ it  {")
    assert run("datasets", "diff", "capitals", "2", "1").out.startswith("0 added, 0 changed, 1 removed\n- it  {")

    target = tmp_path / "test.jsonl"
    done = run("datasets", "export", "capitals", str(target), "--only-split", "test", "--only-tag", "europe")
    assert done.out == f"1 item of Dataset('capitals') written to {target}\n"
    assert json.loads(target.read_text())["expected"] == "Paris"
    old = run("datasets", "export", "capitals", str(target), "--version", "1", "--json")
    assert json.loads(old.out)["items"] == 2


def test_programs_get_json(run: Run, file: Path) -> None:
    made = json.loads(run("datasets", "import", "capitals", str(file), "--json").out)
    assert (made["added"], made["left_out"], made["left_out_lines"][0]["line"]) == (2, 1, 3)
    assert json.loads(run("datasets", "--json").out)[0]["version"] == made["version"]
    shown = json.loads(run("datasets", "show", "capitals", "--json", "--limit", "1").out)
    assert (shown["items"], shown["tags"], len(shown["first"])) == (2, {"america": 1, "europe": 1}, 1)
    assert len(json.loads(run("datasets", "diff", "capitals", "--json").out)["added"]) == 2


def test_standard_input_and_output_are_files_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b'{"id": "a", "q": 1}\n')

    monkeypatch.setattr("sys.stdin", Stdin)
    assert run("datasets", "import", "d", "-").code == 0


def test_an_export_to_standard_output_is_json_lines(run: Run) -> None:
    tk.Dataset("d").insert([{"id": "a", "q": 1}, {"id": "b", "q": 2}])
    assert run("datasets", "export", "d", "-", "--sample", "1.0").out == '{"id":"a","q":1}\n{"id":"b","q":2}\n'
    assert run("datasets", "export", "d", "-", "--format", "csv").out.splitlines() == ["id,q", "a,1", "b,2"]


def test_a_filter_chooses_what_is_shown_and_exported(run: Run) -> None:
    tk.Dataset("d").insert([{"id": "a", "q": 1}, {"id": "b", "q": 2, "tags": "x"}, {"id": "c", "q": 3, "tags": "x"}])
    assert run("datasets", "export", "d", "-", "--filter", "input.q < 3 and tag = x").out == (
        '{"id":"b","q":2,"tags":["x"]}\n'
    )
    assert json.loads(run("datasets", "show", "d", "--filter", "tag = x", "--json").out)["items"] == 2
    assert len(run("datasets", "export", "d", "-", "--filter", "tag = x", "--sample", "1").out.splitlines()) == 1


def test_records_become_a_dataset(run: Run) -> None:
    tk.log_record(input={"question": "a"}, output="bad", app="rag")
    tk.log_record(input={"question": "b"}, output="good", app="rag")
    done = run("datasets", "import", "failures", "--records", 'app = "rag" and output = "bad"', "--tag", "prod")
    assert (done.code, done.out.split(";")[0]) == (0, "1 item added, 0 changed, 0 there already")
    assert run("datasets", "import", "all", "--records", "*", "--limit", "1").code == 0
    assert [item.fields for item in tk.Dataset("all")] == [{"question": "b"}]


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["nope"], 2, "unknown command 'nope'"),
        (["show"], 2, "expected: tracekeeper datasets show NAME"),
        (["list", "x"], 2, "expected: tracekeeper datasets list"),
        (["import", "d"], 2, "expected: tracekeeper datasets import NAME FILE"),
        (["import", "d", "f", "--records", "*"], 2, "expected: tracekeeper datasets import NAME FILE"),
        (["import", "d", "f", "--limit", "3"], 2, "--limit is with --records only"),
        (["import", "d", "--records", "*", "--id", "x"], 2, "--id is not for --records"),
        (["import", "d", "missing.csv"], 1, "missing.csv: No such file"),
        (["import", "d", "missing.csv", "--rename", "x"], 2, "--rename x: expected OLD=NEW"),
        (["import", "d", "--records", "app ="], 2, "app ="),
        (["show", "capitls"], 1, "there is no dataset 'capitls'; there are: capitals"),
        (["show", "capitals", "--version", "ffff"], 1, "has no version 'ffff'"),
        (["show", "capitals", "--update"], 2, "--update is not for datasets show"),
        (["show", "capitals", "--sample", "many"], 2, "--sample many: expected a number"),
        (["export", "capitals", "-", "--filter", "q = 1"], 2, "write input.q"),
        (["import", "d", "missing.csv", "--filter", "q = 1"], 2, "--filter is not for datasets import"),
        (["export", "capitals", "x.doc"], 1, "its ending tells no format"),
        (["diff", "capitals", "1", "2", "3"], 2, "expected: tracekeeper datasets diff"),
    ],
)
def test_a_mistake_is_answered_in_a_sentence(run: Run, words: list[str], code: int, why: str) -> None:
    tk.Dataset("capitals").insert([{"q": 1}])
    done = run("datasets", *words)
    assert done.code == code, done.err
    assert why in done.err
    assert done.err.count("\n") <= 3
