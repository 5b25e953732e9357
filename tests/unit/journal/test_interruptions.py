"""An exception that arrives in the middle of a write, wherever that is, costs no frame and leaves nothing half done."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import pytest

from tracekeeper.journal import counters, files, placing, side, space, stock, writer
from tracekeeper.journal.cursor import Cursor
from tracekeeper.journal.writer import Journal

OURS = {module.__file__ for module in (counters, files, placing, side, space, stock, writer)}
LARGE = b"large" * 30_000


class Interrupt(BaseException):
    """What a signal handler raises."""


class Interrupting:
    """Raises ``Interrupt`` before the n-th line, or instruction, that is run inside the journal."""

    def __init__(self, n: int, kind: Literal["line", "opcode"]) -> None:
        self.left = n
        self.kind = kind
        self.fired = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in OURS:
            return None
        frame.f_trace_opcodes = self.kind == "opcode"
        frame.f_trace_lines = self.kind == "line"
        return self.local

    def local(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == self.kind and not self.fired:
            self.left -= 1
            if self.left < 0:
                self.fired = True
                raise Interrupt
        return self.local


def interrupted(write: Callable[[], object], n: int, kind: Literal["line", "opcode"]) -> bool:
    """Run ``write`` with an exception at its n-th step; ``False`` when it has fewer steps.

    The garbage collector is off meanwhile: the finaliser of some other journal is no step of this write, and Python
    prints what is raised in one instead of passing it on.
    """
    tracer = Interrupting(n, kind)
    before, collected = sys.gettrace(), gc.isenabled()
    gc.disable()
    sys.settrace(tracer)
    try:
        write()
    except Interrupt:
        pass
    finally:
        sys.settrace(before)
        if collected:
            gc.enable()
    return tracer.fired


def in_flight(journal: Journal) -> int:
    """Chunks that are nowhere: with a writer, or lost."""
    return len(journal._space.chunks) - len(journal._pool) - len(journal._full) - len(journal._space.spare)


@pytest.mark.parametrize("kind", ["line", "opcode"])
@pytest.mark.parametrize("payload", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("mode", ["mmap", "write"])
def test_an_exception_at_any_step_of_a_write_loses_and_repeats_nothing(
    tmp_path: Path, mode: Literal["mmap", "write"], payload: bytes, kind: Literal["line", "opcode"]
) -> None:
    journal = Journal.open(tmp_path, destination={}, mode=mode)
    reader, cursor, n = journal.reader(), Cursor(), 0
    while interrupted(lambda: journal.write(payload), n, kind):
        assert journal.write(b"after %d" % n)
        frames, cursor, damaged = reader.read(cursor)
        found = [frame for _, frame in frames]
        assert not damaged
        # Before the first statement of `write` nothing was begun yet.
        assert sorted(found) == sorted([payload, b"after %d" % n]) or (n < 12 and found == [b"after %d" % n])
        journal.release(cursor)
        journal.maintain()
        n += 1
    if n == 0 and kind == "opcode":
        pytest.skip("this Python does not trace single instructions of a function that was called already")
    assert n > 8
    assert journal.frames_written() == reader.frames_written()
    assert journal.dropped() == {}
    if kind == "line":
        # Two statements that call nothing stand between forgetting a chunk and giving it back: no signal handler runs
        # there (the guarantees show it with real signals), but a tracer can, and that costs the chunk. Single
        # instructions are finer still; at those a chunk or a block may be lost, never a frame.
        assert in_flight(journal) <= 3
        assert journal._side is not None
        assert journal._side.used <= 3 * 4


@pytest.mark.parametrize("times", [2, 3])
def test_further_exceptions_while_the_first_one_is_dealt_with_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """In the middle of the fast path, then as the careful one is begun, then in the middle of that."""
    journal = Journal.open(tmp_path, destination={})
    raised: list[str] = []

    def once(name: str, real: Callable[..., Any], turn: int) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if len(raised) == turn and turn < times:
                raised.append(name)
                raise Interrupt
            return real(*arguments)

        return call

    monkeypatch.setattr(writer, "crc32", once("checksum", writer.crc32, 0))
    monkeypatch.setattr(writer, "Job", once("job", writer.Job, 1))
    monkeypatch.setattr(placing, "crc32", once("checksum again", placing.crc32, 2))
    with pytest.raises(Interrupt):
        journal.write(b"frame")
    assert raised == ["checksum", "job", "checksum again"][:times]
    assert [frame for _, frame in journal.reader().read(Cursor())[0]] == [b"frame"]
    assert journal.frames_written() == 1
    assert in_flight(journal) == 0


def test_what_a_signal_handler_raises_reaches_the_program_even_if_it_looks_like_a_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(tmp_path, destination={}, mode="write")
    real, calls = files._pwrite, []

    def handler_runs_inside(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise TimeoutError("the program's own deadline")
        return real(*arguments)

    monkeypatch.setattr(files, "_pwrite", handler_runs_inside)
    with pytest.raises(TimeoutError, match="own deadline"):
        journal.write(b"kept")
    assert [frame for _, frame in journal.reader().read(Cursor())[0]] == [b"kept"]
    assert journal.dropped() == {}
