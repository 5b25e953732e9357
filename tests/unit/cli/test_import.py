"""`tracekeeper import`: the good lines are kept, the broken ones named, and a typo imports nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

import tracekeeper as tk

from .conftest import Run

ROWS = [
    {
        "question": "capital of France?",
        "answer": "Paris",
        "docs": ["Paris is the capital."],
        "truth": "Paris",
        "chat": 7,
    },
    {"question": "capital of Spain?", "answer": "Madrid", "docs": "Madrid is.", "truth": None, "chat": 7},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "answers.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_every_row_becomes_a_record(run: Run, file: Path) -> None:
    result = run(
        *("import", str(file), "--input", "question", "--output", "answer", "--context", "docs", "--expected", "truth"),
        *("--session", "chat", "--app", "quiz", "--app-version", "3", "--tag", "a", "--tag", "b"),
    )
    assert (result.code, result.err) == (0, "importing JSON Lines: 2\n")
    assert "2 records imported, 0 broken lines left out (JSON Lines)" in result.out
    assert "spans: 2 journaled = 2 stored + 0 pending" in result.out
    newer, older = tk.records()
    assert (older.input, older.output) == ({"question": "capital of France?"}, "Paris")
    assert (older.context, older.expected) == (["Paris is the capital."], "Paris")
    assert (newer.context, newer.expected) == (["Madrid is."], None)
    assert (older.app, older.version, older.session_id, older.tags) == ("quiz", "3", "7", ("a", "b"))


def test_several_inputs_become_one_mapping_and_the_file_names_the_app(run: Run, file: Path) -> None:
    run("import", str(file), "--input", "question", "--input", "truth", "--output", "answer")
    record = tk.records()[-1]
    assert record.input == {"question": "capital of France?", "truth": "Paris"}
    assert (record.app, record.version) == ("answers", "1")


def test_a_path_reaches_into_objects(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text('[{"in": {"text": "q"}, "a.b": "dotted"}]')
    assert run("import", str(path), "--input", "in.text", "--output", "a.b").code == 0
    assert (tk.records()[0].input, tk.records()[0].output) == ({"in.text": "q"}, "dotted")


def test_csv_and_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO('\ufeffq;a\r\nwhy?;"because; so"\r\n'.encode())

    monkeypatch.setattr("sys.stdin", Stdin)
    result = run("import", "-", "--input", "q", "--output", "a", "--json")
    assert result.code == 0
    said = json.loads(result.out)
    assert (said["format"], said["imported"], said["broken"], said["receipt"]["stored"]) == ("CSV", 1, 0, 1)
    assert (tk.records()[0].output, tk.records()[0].app) == ("because; so", "stdin")


def test_broken_lines_are_named_up_to_ten_and_then_counted(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    good = '{"q": "a", "a": "b"}'
    path.write_text("\n".join([good, *["{"] * 10, '{"q": 1}', good, "[]", ""]))
    result = run("import", str(path), "--input", "q", "--output", "a")
    assert result.code == 1
    lines = result.err.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("line ")] == [f"line {n}" for n in range(2, 12)]
    assert "… and 2 more broken lines" in lines
    assert "2 records imported, 12 broken lines left out" in result.out
    assert len(tk.records()) == 2


def test_a_line_without_the_field_is_broken_by_name(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"q": "a", "a": "b"}\n{"q": "a"}\n')
    assert "line 2: no field 'a'" in run("import", str(path), "--input", "q", "--output", "a").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--input", "qestion", "--output", "answer"),
            "the field 'qestion'; there are 'question', 'answer'",
        ),
        (("--input", "question", "--output", "answer", "--context", "x"), "no row has the field 'x'"),
        (("--input", "question", "--output", "answer", "--encoding", "klingon"), "unknown encoding 'klingon'"),
    ],
)
def test_a_field_that_is_nowhere_imports_nothing(run: Run, file: Path, words: tuple[str, ...], said: str) -> None:
    result = run("import", str(file), *words)
    assert result.code == 1
    assert said in result.err
    assert run("records").code == 1, "nothing was written"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\x00\x01", "not a text file"),
        (b"{\n{\n", "no row could be read"),
        (None, "No such file"),
    ],
)
def test_a_file_without_rows_is_an_error(run: Run, tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    result = run("import", str(path), "--input", "q", "--output", "a")
    assert (result.code, result.out) == (1, "")
    assert said in result.err


def test_the_journal_is_shipped_as_it_goes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes: list[Any] = []
    monkeypatch.setattr("tracekeeper.cli.import_file.BATCH_ROWS", 2)
    real = tk.flush
    monkeypatch.setattr("tracekeeper.cli.import_file.flush", lambda timeout: flushes.append(timeout) or real(timeout))
    path = tmp_path / "x.jsonl"
    path.write_text('{"q": "a", "a": "b"}\n' * 5)
    assert run("import", str(path), "--input", "q", "--output", "a").code == 0
    assert len(flushes) == 3
