"""Bad input: a clear error at the right place, which says what happened, to what, and what to do; and nothing lost."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.programs import run

import tracekeeper as tk
from tracekeeper.cli import main
from tracekeeper.configuration import reset

Call = Callable[[], Any]


def steady(output: str) -> float:
    return 1.0


# -- settings ---------------------------------------------------------------------------------------------------------

SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"store": "mysql://x/y"}, "unknown kind of store 'mysql'; expected sqlite:///path/to/file.db"),
    ({"store": "sqlit:///x.db"}, "did you mean sqlite://"),
    ({"store": "x.db"}, "expected a URL such as sqlite:///path/to/file.db"),
    ({"store": "sqlite://x.db"}, "three slashes come before the path: sqlite:///x.db"),
    ({"store": "sqlite://"}, "name a file, or use tk.testing"),
    ({"store": "postgresql://me:secret@host/db"}, r"'postgresql://me:\*\*\*@host/db': this version stores to sqlite"),
    ({"store": "http://host:4380"}, "this version stores to sqlite:///path.db only"),
    ({"directory": 3}, "directory=3: expected a path"),
    ({"projct": "x"}, "unknown setting 'projct'; did you mean project?"),
    ({"xyzzy": 1}, "unknown setting 'xyzzy'; known: api_key, capture_input"),
    ({"exit_timeout": -1}, "exit_timeout=-1: expected a number at least 0"),
    ({"sample": float("nan")}, "sample=nan: expected a number between 0 and 1"),
    ({"tags": "beta"}, "tags='beta': expected a list of names"),
    ({"metadata": "acme"}, "metadata='acme': expected a mapping"),
    ({"user_id": ["a"]}, r"user_id=\['a'\]: expected text"),
]


@pytest.mark.parametrize(("changes", "message"), SETTINGS, ids=[str(changes) for changes, _ in SETTINGS])
def test_a_setting_that_cannot_work_changes_nothing(changes: dict[str, Any], message: str) -> None:
    before = tk.settings()
    with pytest.raises(tk.ConfigurationError, match=message) as raised:
        tk.configure(project="other", **changes)
    assert tk.settings() == before
    assert "secret" not in str(raised.value)


def test_a_setting_of_the_environment_that_cannot_work_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEKEEPER_SAMPLE", "lots")
    reset()
    with pytest.raises(tk.ConfigurationError, match="TRACEKEEPER_SAMPLE='lots': expected a number"):
        tk.settings()


@pytest.mark.parametrize("value", [42, 1.5, uuid.UUID(int=7), "\ud800"], ids=repr)
def test_an_id_of_any_type_is_kept_as_text(keeper: object, value: Any) -> None:
    with tk.context(user_id=value, session_id=value, environment=value, release=value):
        tk.trace(lambda question: "mild")("how?")
    tk.log_record(input="how?", output="mild", user_id=value, session_id=value, name=value, model=value)
    kept = list(tk.records())
    assert [record.output for record in kept] == ["mild", "mild"]
    expected = str(value).encode("utf-8", "backslashreplace").decode()
    assert {(record.user_id, record.session_id) for record in kept} == {(expected, expected)}


# -- metrics and apps -------------------------------------------------------------------------------------------------


def answered(question: str) -> str:
    return "mild"


def needs_documnets(documnets: list[str]) -> float:
    return 1.0


def judge_documents(question: str, documents: list[str]) -> str:
    return "mild"


loose: Any = tk
"""Many of these a type checker says first; here it keeps quiet."""

METRICS: list[tuple[str, Call, str]] = [
    ("timeout=-1", lambda: loose.metric(steady, timeout=-1), "metric 'steady': timeout=-1: expected a positive number"),
    ("no number", lambda: loose.metric(steady, timeout="5"), "timeout='5': expected a positive number of seconds"),
    ("option", lambda: loose.metric(steady, timout=5), "unknown option 'timout'; did you mean timeout="),
    ("mode", lambda: loose.metric(steady, mode="inlin"), "did you mean 'inline'"),
    (
        "called",
        lambda: loose.metric(steady("x")),
        "not callable; pass the function itself, not the result of calling it",
    ),
    ("called, None", lambda: loose.metric(print("")), r"metric\(None\): not callable; pass the function itself"),
    ("class", lambda: loose.metric(tk.metrics.Length), r"a class; pass an instance of it: Length\("),
    ("parameter", lambda: loose.metric(steady).on(outptu=tk.select.output()), "did you mean 'output'"),
    ("built-in", lambda: loose.metrics.Equals(tolerence=1), "unknown option 'tolerence'; did you mean tolerance="),
]


@pytest.mark.parametrize(("call", "message"), [case[1:] for case in METRICS], ids=[case[0] for case in METRICS])
def test_a_metric_that_can_never_work_is_refused_when_it_is_made(call: Call, message: str) -> None:
    with pytest.raises(tk.MetricError, match=message):
        call()


APPS: list[tuple[str, Call, str]] = [
    ("name alone", lambda: loose.app("rag"), r"did you mean @tk.app\(name='rag'\)\?"),
    ("option", lambda: loose.app(nmae="rag"), "@tk.app has no option 'nmae'; did you mean name"),
    ("name", lambda: loose.App(answered, name=3), "name=3: expected the app's name as text"),
    ("target", lambda: loose.App("rag"), "an app needs something to call, not str: 'rag'"),
    (
        "one metric",
        lambda: loose.App(answered, metrics=loose.metric(steady)),
        r"expected a list of metrics, got Metric: write",
    ),
    ("result", lambda: loose.App(answered, metrics=[steady("x")]), "pass the function itself"),
    (
        "twice",
        lambda: loose.App(answered, name="a", metrics=[steady, steady]),
        "app 'a': .* two metrics are named 'steady'",
    ),
    (
        "argument",
        lambda: loose.App(answered, metrics=[needs_documnets]),
        "'needs_documnets': nothing provides its argument",
    ),
    ("near", lambda: loose.App(judge_documents, metrics=[needs_documnets]), "'documnets'; did you mean 'documents'"),
    ("kind", lambda: loose.App(answered, kind="chian"), "kind='chian': did you mean 'chain'"),
    ("trace option", lambda: loose.trace(knd="llm"), "@tk.trace has no option 'knd'; did you mean kind"),
    ("trace kind", lambda: loose.trace(kind="retreiver"), "did you mean 'retriever'"),
    ("trace name", lambda: loose.trace("retrieve"), r"did you mean @tk.trace\(name='retrieve'\)"),
    ("trace mask", lambda: loose.trace(mask=3), "mask=3: expected a callable"),
]


@pytest.mark.parametrize(("call", "message"), [case[1:] for case in APPS], ids=[case[0] for case in APPS])
def test_an_app_that_can_never_work_is_refused_when_it_is_made(call: Call, message: str) -> None:
    with pytest.raises(tk.TracekeeperError, match=message):
        call()


def test_an_argument_that_only_the_output_could_have_is_skipped_with_its_name(keeper: object) -> None:
    ask = tk.App(lambda question: {"answer": "mild"}, name="a", metrics=[needs_documnets])
    ask("how?")
    [(_, scores)] = ask.wait_for_scores(timeout=10)
    assert scores["needs_documnets"].status == "skipped"
    assert "documnets" in (scores["needs_documnets"].reason or "")


def test_a_mistyped_name_of_the_package_names_the_nearest() -> None:
    for name, near in (("recrds", "records"), ("trce", "trace"), ("Recrding", "Recording")):
        with pytest.raises(AttributeError, match=rf"has no attribute '{name}'; did you mean tk\.{near}\?"):
            getattr(tk, name)
    with pytest.raises(AttributeError, match=r"did you mean tk\.metrics\.OverlapGroundedness"):
        _ = tk.metrics.OverlapGroundednes


# -- recordings and waits ---------------------------------------------------------------------------------------------


def test_a_recording_without_a_call_says_what_to_do(keeper: object) -> None:
    with tk.recording() as recording:
        pass
    with pytest.raises(tk.RecordingError, match=r"no record was begun in this recording: call a function made with"):
        recording.get()


def test_a_wait_refuses_what_can_never_come_at_once(keeper: object) -> None:
    ask = tk.App(answered, name="a", metrics=[steady])
    with tk.recording() as recording:
        ask("how?")
    record = recording.get()
    waits: Any
    for waits in (record, recording, ask):
        with pytest.raises(tk.MetricError, match="no score named 'stedy' on record 'a'; did you mean 'steady'"):
            waits.wait_for_scores(names=["stedy"])
        with pytest.raises(tk.MetricError, match=r"expected a list of names, such as \['steady'\]"):
            waits.wait_for_scores(names="steady")
        for timeout in (-1, float("nan"), "5"):
            with pytest.raises(tk.ConfigurationError, match=f"timeout={timeout!r}: expected a number of seconds"):
                waits.wait_for_scores(timeout=timeout)
    assert record.wait_for_scores(timeout=10)["steady"].value == 1.0


# -- filters ----------------------------------------------------------------------------------------------------------


def test_a_typo_in_a_filter_shows_its_place_and_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    expected = "unknown field 'sttus'; did you mean status?\n  app = rag and sttus = error\n                ^"
    for read in (tk.records, tk.records_and_scores, tk.leaderboard):
        with pytest.raises(tk.FilterError) as raised:
            read("app = rag and sttus = error")
        assert str(raised.value) == expected
        assert raised.value.position == 14
    for words in (["records"], ["leaderboard"], ["score", "--metric", "Length", "--filter"]):
        assert main([*words, "app = rag and sttus = error"]) == 2
        assert capsys.readouterr().err == f"tracekeeper: {expected}\n"
    assert not Path(".tracekeeper").exists()


def test_a_filter_that_is_no_text_is_refused(keeper: object) -> None:
    with pytest.raises(tk.FilterError, match="filter=3: expected a text such as"):
        loose.records(3)


# -- the command line -------------------------------------------------------------------------------------------------

WORDS: list[tuple[list[str], int, str]] = [
    (["recrds"], 2, "unknown command 'recrds'; did you mean 'records'?; see: tracekeeper --help"),
    (["records", "--limt", "3"], 2, "unknown option --limt; did you mean --limit?; see: tracekeeper records --help"),
    (["records", "--limit", "x"], 2, "argument --limit: 'x': expected a number, or all"),
    (["records", "--store", "mysql://x/y"], 2, "unknown kind of store 'mysql'"),
    (["records"], 1, "nothing was traced into"),
    (["show", "zzz"], 1, "'zzz' is no trace id: expected 32 hexadecimal digits"),
    (["score", "--metric", "Lenth"], 2, "no metric is named 'Lenth'; did you mean 'length'"),
    (["score", "--metric", "nowhere:f"], 2, "module 'nowhere' does not import"),
    (["score", "--metric", "Length", "--timeout", "-1"], 2, "'-1': expected a positive number of seconds"),
    (["score", "--metric", "Length", "--param", "unt=words"], 2, "unknown option 'unt'; did you mean unit=?"),
    (["import", "nofile.json", "--input", "q", "--output", "a"], 1, "nofile.json: No such file or directory"),
]


@pytest.mark.parametrize(("words", "code", "message"), WORDS, ids=[" ".join(case[0]) for case in WORDS])
def test_a_command_that_cannot_be_carried_out_says_so_in_one_message(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.startswith("tracekeeper: ")
    assert shown.err.count("\n") == 1
    assert shown.out == ""


@pytest.mark.parametrize("words", [["demo"], ["import", "good.jsonl", "--input", "q", "--output", "a"]], ids=" ".join)
def test_a_command_that_keeps_something_refuses_to_do_so_while_tracing_is_off(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("good.jsonl").write_text('{"q": 1, "a": 2}\n')
    monkeypatch.setenv("TRACEKEEPER_DISABLED", "1")
    reset()
    assert main(words) == 2
    assert "tracing is turned off (TRACEKEEPER_DISABLED)" in capsys.readouterr().err


def test_an_import_keeps_the_good_lines_and_numbers_the_broken_ones(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ['{"q": 1, "a": "one"}', "broken", '{"q": 3, "a": "three"}', '{"a": 4}', "[5]", '{"q": 6, "a": "six"}']
    Path("answers.jsonl").write_text("\n".join(lines))
    assert main(["import", "answers.jsonl", "--input", "q", "--output", "a"]) == 1
    shown = capsys.readouterr()
    assert [line for line in shown.err.splitlines() if line.startswith("line ")] == [
        "line 2: not JSON: Expecting value at column 1",
        "line 4: no field 'q'",
        "line 5: expected an object with fields, not a list",
    ]
    assert "3 records imported, 3 broken lines left out" in shown.out
    assert sorted(record.output for record in tk.records()) == ["one", "six", "three"]


# -- places -----------------------------------------------------------------------------------------------------------

TRACES = """
import tracekeeper as tk

@tk.trace
def ask(question):
    return "mild"

print(ask("how?"))
print(tk.flush().dropped != {})
"""


def test_a_directory_that_cannot_be_written_costs_no_call_and_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    done = run(TRACES, tmp_path, TRACEKEEPER_DIRECTORY=str(tmp_path / "file" / "data"))
    assert (done.code, done.out) == (0, "mild\nTrue\n")
    said, left = done.err.splitlines()
    assert said.startswith(f"nothing is kept at present: {tmp_path}/file/data/journal cannot be written (ENOTDIR")
    assert said.count("make it writable") == 1
    assert re.match(r"tracekeeper: \d+ frames could not be kept in ", left)


NOBODY = """
import os, tempfile
import tracekeeper as tk

ask = tk.trace(lambda question: "mild")
tk.configure(directory=tempfile.mkdtemp())  # imports everything while the installation may still be read
ask("before")
tk.records()
tk.shutdown()
tk.configure(directory={directory!r})
if os.getuid() == 0: os.setuid(65534)  # root may write anywhere
print(ask("how?"))
print(tk.flush().dropped != {{}})
"""


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="no users here")
def test_a_directory_without_write_permission_is_named_with_the_reason(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as place:  # not below tmp_path, which another user may not enter
        Path(place).chmod(0o555)
        done = run(NOBODY.format(directory=place), tmp_path)
        Path(place).chmod(0o755)
    assert (done.code, done.out) == (0, "mild\nTrue\n"), done.err
    assert f"nothing is kept at present: {place}/journal cannot be written (EACCES: Permission denied)" in done.err
    assert "make it writable, or choose another place with tk.configure(directory=…)" in done.err


def foreign(path: Path) -> None:
    path.write_text("hello, world, this is no database at all")


def of_another_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (a)")
    connection.commit()
    connection.close()


def newer(path: Path) -> None:
    with tk.testing.temporary_keeper(path.parent / "made", store=f"sqlite:///{path}"):
        tk.trace(lambda question: "kept")("how?")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()


def a_directory(path: Path) -> None:
    path.mkdir()


PLACES: list[tuple[Callable[[Path], None], str]] = [
    (foreign, "is not a SQLite database (or is damaged at its beginning). Move"),
    (of_another_program, "is a SQLite database of another program. It was not touched; set store="),
    (newer, "newer"),
    (a_directory, "is a directory; name a file in it, e.g. sqlite:///"),
]


@pytest.mark.parametrize(("make", "message"), PLACES, ids=[make.__name__ for make, _ in PLACES])
def test_a_database_that_is_not_ours_is_left_alone_and_the_calls_wait_in_the_journal(
    make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.db"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    done = run(
        TRACES + "\ntry: tk.records()\nexcept tk.StoreError as error: print(error)",
        tmp_path,
        TRACEKEEPER_DIRECTORY=str(tmp_path / "data"),
        TRACEKEEPER_STORE=f"sqlite:///{path}",
    )
    assert done.code == 0, done.err
    shown, kept, error = done.out.split("\n", 2)
    assert (shown, kept) == ("mild", "False")
    assert str(path) in error
    assert message in error
    assert "tracekeeper: 1 span is still only in the journal" in done.err
    assert (path.read_bytes() if path.is_file() else b"") == before
    # Once the place is free again, nothing is missing.
    path.rename(tmp_path / "aside")
    tk.configure(directory=tmp_path / "data", store=f"sqlite:///{path}")
    assert [record.output for record in tk.records()] == ["mild"]
    tk.shutdown()


def test_a_frame_that_cannot_be_read_back_is_in_the_receipt(tmp_path: Path) -> None:
    with tk.testing.temporary_keeper(tmp_path / "data") as keeper:
        tk.trace(lambda question: "mild")("how?")
        assert keeper.journal is not None
        keeper.journal.write(b"no frame of ours")
        receipt = tk.flush()
        assert (receipt.journaled, receipt.stored, receipt.dropped) == (1, 1, {"damaged frames": 1})


def test_corrupt_journals_are_set_aside_and_their_good_frames_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    code = """
import os, tracekeeper as tk
tk.configure(store="sqlite:///nowhere/x.db")
ask = tk.trace(lambda question: question)
for number in range(20): ask(f"question {number}")
os._exit(0)
"""
    done = run(code, tmp_path, TRACEKEEPER_DIRECTORY=str(data))
    assert done.code == 0, done.err
    [journal] = (data / "journal").glob("*.journal")
    content = bytearray(journal.read_bytes())
    place = content.index(b"question 7")
    content[place : place + 8] = b"XXXXXXXX"
    journal.write_bytes(content)
    (data / "journal" / "rubbish.journal").write_bytes(b"no journal at all" * 100)
    (data / "journal" / "empty.journal").write_bytes(b"")
    (tmp_path / "nowhere").mkdir()
    tk.configure(directory=data, store=f"sqlite:///{tmp_path}/nowhere/x.db")
    outputs = {record.output for record in tk.records(limit=None)}
    assert outputs >= {f"question {number}" for number in range(20) if number != 7}
    assert tk.flush().dropped == {}
    assert "has 1 damaged frame; the good ones are kept" in caplog.text
    assert "rubbish.journal" in caplog.text
    tk.shutdown()
