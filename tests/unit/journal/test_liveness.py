"""Whether a journal's process lives: told by a record lock, and without one by number and start time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tracekeeper.journal import directory, liveness, processes
from tracekeeper.journal.layout import Header
from tracekeeper.journal.writer import Journal
from tracekeeper.types import JournalError, faults

ASK = (
    "import sys\n"
    "from pathlib import Path\n"
    "from tracekeeper.journal import liveness\n"
    "print(liveness.is_alive(Path(sys.argv[1])))\n"
)
SRC = Path(__file__).parents[3] / "src"


class Other:
    """Another process with an open journal that holds one frame."""

    def __init__(self, data: Path) -> None:
        program = (
            "import sys\n"
            "from pathlib import Path\n"
            "from tracekeeper.journal.writer import Journal\n"
            f"journal = Journal.open(Path({str(data)!r}), destination={{}})\n"
            "journal.write(b'from another process')\n"
            "print(journal.path, flush=True)\n"
            "sys.stdin.read()\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SRC)},
            text=True,
        )
        stdout = self.process.stdout
        assert stdout is not None
        self.stdout: IO[str] = stdout
        self.path = Path(stdout.readline().strip())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Other]:
    made = Other(tmp_path)
    yield made
    made.kill()


@pytest.fixture(params=["locks", "no locks"])
def locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "no locks":
        monkeypatch.setattr(liveness, "fcntl", None)
        monkeypatch.setattr(liveness, "msvcrt", None)
    return str(request.param)


def test_a_living_process_keeps_its_journal_and_a_dead_one_leaves_it(other: Other, locks: str) -> None:
    assert liveness.is_alive(other.path)
    assert liveness.adopt(other.path) is None
    other.kill()
    assert not liveness.is_alive(other.path)
    held = liveness.adopt(other.path)
    assert held is not None
    assert liveness.adopt(other.path) is None  # one adopter at a time
    assert not liveness.is_alive(other.path)
    held.release()
    held.release()
    again = liveness.adopt(other.path)
    assert again is not None
    directory.remove(other.path)
    again.release()
    assert liveness.adopt(other.path) is None
    assert not liveness.is_alive(other.path)
    assert list(other.path.parent.iterdir()) == []


def test_of_two_adopting_processes_one_gets_the_journal(other: Other, locks: str) -> None:
    other.kill()
    held = liveness.adopt(other.path)
    assert held is not None
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tracekeeper.journal import liveness\n"
        "if sys.argv[2] == 'no locks': liveness.fcntl = liveness.msvcrt = None\n"
        "print(liveness.adopt(Path(sys.argv[1])))\n"
    )
    command = [sys.executable, "-c", program, str(other.path), locks]
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    assert subprocess.check_output(command, env=environment, text=True).strip() == "None"
    held.release()
    assert subprocess.check_output(command, env=environment, text=True).strip() != "None"
    # Without locks that adopter died and left its mark; it does not stand in the way.
    held = liveness.adopt(other.path)
    assert held is not None
    held.release()


def test_a_deleted_lock_file_does_not_make_a_living_process_dead(other: Other) -> None:
    other.path.with_suffix(".lock").unlink()
    assert liveness.is_alive(other.path)
    assert liveness.adopt(other.path) is None
    other.kill()
    assert not liveness.is_alive(other.path)
    held = liveness.adopt(other.path)
    assert held is not None
    held.release()


def test_this_process_s_own_journals_are_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.open(tmp_path, destination={})

    def refuse(*arguments: object) -> int:
        raise AssertionError("a lock file of this process was opened again")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert liveness.is_alive(journal.path)
        assert liveness.adopt(journal.path) is None
        with pytest.raises(JournalError, match="this process"):
            liveness.hold(journal.path)
    journal.write(b"left")
    journal.close(remove=True)
    held = liveness.adopt(journal.path)
    assert held is not None
    held.release()


def test_the_child_of_a_fork_neither_holds_nor_frees_its_parent_s_lock(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, destination={})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            # Here the parent's journal is another process's: it lives, and asking does not disturb it.
            code = 0 if liveness.is_alive(journal.path) and liveness.adopt(journal.path) is None else 2
            code = code or (0 if not journal.write(b"from the child") else 3)
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert journal.write(b"from the parent")
    command = [sys.executable, "-c", ASK, str(journal.path)]
    assert subprocess.check_output(command, env={**os.environ, "PYTHONPATH": str(SRC)}, text=True).strip() == "True"
    assert journal.frames_written() == 1


def test_a_lock_lost_to_a_backup_in_the_same_process_is_taken_again(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, destination={})
    command = [sys.executable, "-c", ASK, str(journal.path)]
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    journal.path.with_suffix(".lock").read_bytes()
    assert subprocess.check_output(command, env=environment, text=True).strip() == "False"
    journal.maintain()
    assert subprocess.check_output(command, env=environment, text=True).strip() == "True"


def test_a_process_that_died_while_opening_leaves_nothing_for_long(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tracekeeper.journal.writer import Journal\n"
        "from tracekeeper.types import faults\n"
        "faults.arm('journal.grow', faults.killing())\n"
        "Journal.open(Path(sys.argv[1]), destination={})\n"
    )
    died = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(SRC)}, check=False
    )
    assert died.returncode == -9
    assert directory.journals(tmp_path) == []
    assert liveness.sweep(tmp_path) == 0  # it might still be at it
    for path in (tmp_path / "journal").iterdir():
        os.utime(path, (time.time() - 100, time.time() - 100))
    assert liveness.sweep(tmp_path) == 1
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    me = Header(name="", pid=os.getpid(), host=processes.host(), boot_id=processes.boot_id(), started=0, chunk_size=0,
                process_started=processes.started(os.getpid()))  # fmt: skip
    assert processes.may_run(me)

    def changed(**values: object) -> Header:
        return Header(**{**{name: getattr(me, name) for name in me.__struct_fields__}, **values})  # type: ignore[arg-type]

    assert not processes.may_run(changed(process_started="1"))
    assert not processes.may_run(changed(boot_id="another start of this machine"))
    assert not processes.may_run(changed(pid=2**22 + 1))
    assert processes.may_run(changed(host="elsewhere", pid=2**22 + 1))


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    directory.prepare(tmp_path)
    with faults.armed("journal.lock", faults.failing(28)), pytest.raises(JournalError, match="ENOSPC"):
        Journal.open(tmp_path, destination={})
    assert Journal.open(tmp_path, destination={}).write(b"fine")
