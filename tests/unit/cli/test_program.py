"""The command line: exit codes, one message for an error, and nothing odd when the reader goes away."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tracekeeper as tk
from tracekeeper.cli import arguments, program, reference

from .conftest import Run

ROOT = Path(__file__).resolve().parents[3]


def test_the_version(run: Run) -> None:
    assert run("--version") == (0, f"tracekeeper {tk.__version__}\n", "")


def test_without_a_command_the_help_and_code_2(run: Run) -> None:
    result = run()
    assert result.code == 2
    assert all(command in result.out for command in arguments.COMMANDS)


@pytest.mark.parametrize("command", arguments.COMMANDS)
def test_every_command_has_help(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.code == 0
    assert f"usage: tracekeeper {command}" in result.out


ASKED = """\
import sys
from tracekeeper.cli import arguments, main

code = main(sys.argv[1:])
beside = {name.removeprefix("tracekeeper.cli.") for name in sys.modules if name.startswith("tracekeeper.cli.")}
print("imported:", *sorted(name for name in arguments.COMMANDS if arguments.module_name(name) in beside))
sys.exit(code)
"""


def imported_by(directory: Path, *words: str) -> list[str]:
    """The commands whose modules a process has imported that ran this one."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TRACEKEEPER_DIRECTORY": str(directory / "data")}
    command = [sys.executable, "-c", ASKED, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=directory)
    assert "imported:" in done.stdout, done.stderr
    return done.stdout.rpartition("imported:")[2].split()


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("recrods",)])
def test_what_is_asked_of_no_command_imports_none(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert imported_by(tmp_path, *words) == []


def test_a_command_imports_no_other(tmp_path: Path) -> None:
    assert imported_by(tmp_path, "datasets", "list") == ["datasets"]


@pytest.mark.slow
@pytest.mark.parametrize("command", arguments.COMMANDS)
def test_the_help_of_a_command_imports_no_other(tmp_path: Path, command: str) -> None:
    assert imported_by(tmp_path, command, "--help") == [command]


def test_the_commands_are_listed_with_what_they_are_for(run: Run) -> None:
    shown = " ".join(run("--help").out.split())
    assert [f"{name} {help}" for name, help in arguments.COMMANDS.items() if f"{name} {help}" not in shown] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("recrods",), "unknown command 'recrods'; did you mean 'records'?"),
        (("xyz",), "unknown command 'xyz'; known: demo, records"),
        (("records", "--limt", "3"), "unknown option --limt; did you mean --limit?"),
        (("records", "--limit=x"), "'x': expected a number, or all"),
        (("records", "a", "b"), "unexpected argument 'b'"),
        (("records", "latncy > 2s"), "did you mean latency?"),
        (("score", "--metric", "lenght"), "did you mean 'length'?"),
        (("score",), "the following arguments are required: --metric"),
        (("score", "--metric", "length", "--param", "x"), "expected NAME=VALUE"),
        (("records", "--store", "sqlit:///x.db"), "did you mean sqlite://?"),
    ],
)
def test_a_mistake_is_one_message_with_the_nearest_word_and_code_2(run: Run, words: tuple[str, ...], said: str) -> None:
    tk.log_record(input="q", output="a")
    result = run(*words)
    assert result.code == 2
    assert said in result.err
    assert result.err.startswith("tracekeeper: ")
    assert "Traceback" not in result.err
    assert result.out == ""


@pytest.mark.parametrize("words", [("records",), ("leaderboard",), ("status",), ("score", "--metric", "length")])
def test_reading_where_nothing_was_traced_makes_no_database(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    result = run(*words, "--directory", str(tmp_path / "nowhere"))
    assert result.code == 1
    assert f"nothing was traced into {tmp_path / 'nowhere'} yet" in result.err
    assert not (tmp_path / "nowhere").exists()


def test_options_count_before_and_after_the_command(run: Run, tmp_path: Path) -> None:
    for words in (("--directory", str(tmp_path / "x"), "status"), ("status", "--directory", str(tmp_path / "x"))):
        assert str(tmp_path / "x") in run(*words).err


def test_an_unexpected_error_is_one_line_unless_debugging(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(parsed: object) -> int:
        raise RuntimeError("a surprise")

    tk.log_record(input="q", output="a")
    monkeypatch.setattr("tracekeeper.cli.status.run", broken)
    result = run("status")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "RuntimeError: a surprise" in result.err
    assert "Traceback" in run("status", "--debug").err


def test_ctrl_c_is_quiet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(parsed: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("tracekeeper.cli.status.run", interrupted)
    assert run("status") == (130, "", "")


@pytest.mark.slow
def test_a_reader_that_went_away_is_no_error(tmp_path: Path) -> None:
    code = (
        "import sys, tracekeeper as tk\n"
        "for n in range(2_000): tk.log_record(input='q' * 50, output='a' * 50)\n"
        "tk.flush()\n"
        "from tracekeeper.cli import main\n"
        "sys.exit(main(['records', '--limit', 'all', '--json']))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TRACEKEEPER_DIRECTORY": str(tmp_path / "data")}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait(60) == program.NO_READER
    assert error == b""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="needs signals")
def test_an_interrupted_import_keeps_what_it_has(tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_text('{"q": "question", "a": "answer"}\n' * 300_000)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TRACEKEEPER_DIRECTORY": str(tmp_path / "data")}
    words = ["-m", "tracekeeper", "import", str(file), "--input", "q", "--output", "a"]
    with subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()  # the first progress line: it is in the middle of it
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == program.INTERRUPTED
    assert b"importing JSON Lines" in first
    assert b"Traceback" not in rest
    counted = int(re.findall(rb"importing JSON Lines: ([\d,]+)", rest or first)[-1].replace(b",", b""))
    shown = subprocess.run(
        [sys.executable, "-m", "tracekeeper", "status", "--json"], capture_output=True, env=environment, cwd=tmp_path
    )
    found = re.search(rb'"records": (\d+)', shown.stdout)
    assert found is not None
    assert counted <= int(found[1]) < 300_000


def test_the_reference_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == reference.page(), "run: python -m tracekeeper.cli.reference > docs/cli.md"
