"""Writing, reading, holding, releasing and reopening in any order, against a plain list."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Literal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tracekeeper.journal.cursor import Cursor, Position
from tracekeeper.journal.reader import JournalReader
from tracekeeper.journal.writer import Journal

LIMIT = 1 << 20
SIZES = st.one_of(st.integers(0, 300), st.integers(0, 20_000), st.integers(0, 250_000))


class JournalModel(RuleBasedStateMachine):
    """``unread`` is what a shipper has still to see; ``held`` what it must be able to read again."""

    @initialize(mode=st.sampled_from(["mmap", "write"]))
    def open(self, mode: Literal["mmap", "write"]) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.journal = Journal.open(self.directory, destination={}, mode=mode, limit=LIMIT)
        self.reader = self.journal.reader()
        self.cursor = Cursor()
        self.unread: list[bytes] = []
        self.held: dict[Position, bytes] = {}
        self.count = self.kept = self.refused = 0

    @rule(
        size=st.one_of(st.integers(0, 300), st.integers(0, 20_000), st.integers(0, 250_000)), times=st.integers(1, 20)
    )
    def write(self, size: int, times: int) -> None:
        for _ in range(times):
            self.count += 1
            payload = b"%08d" % self.count + b"." * size
            if self.journal.write(payload):
                self.unread.append(payload)
                self.kept += 1
            else:
                self.refused += 1

    @rule(size=st.integers(0, 100), depth=st.integers(1, 4))
    def write_nested(self, size: int, depth: int) -> None:
        """A finaliser in the middle of a write holds its own chunk: taken here by hand."""
        chunks = []
        for _ in range(depth):
            if self.journal._pool:
                chunks.append(self.journal._pool.pop())
            self.write(size, 1)
        self.journal._pool.extend(chunks)

    @rule(max_bytes=st.sampled_from([1, 1_000, 100_000, 1 << 24]), hold=st.booleans())
    def read(self, max_bytes: int, hold: bool) -> None:
        frames, cursor, damaged = self.reader.read(self.cursor, max_bytes=max_bytes)
        assert damaged == 0
        assert [payload for _, payload in frames] == self.unread[: len(frames)]
        assert frames or not self.unread
        del self.unread[: len(frames)]
        if hold and frames:
            self.held[frames[0][0]] = frames[0][1]
        self.cursor = Cursor(cursor.chunks, tuple(self.held))

    @precondition(lambda self: self.held)
    @rule()
    def let_go(self) -> None:
        self.held.pop(next(iter(self.held)))
        self.cursor = Cursor(self.cursor.chunks, tuple(self.held))

    @rule(maintain=st.booleans())
    def release(self, maintain: bool) -> None:
        self.journal.release(Cursor.decode(self.cursor.encode()))
        if maintain:
            self.journal.maintain()

    @rule()
    def another_reader(self) -> None:
        self.reader = JournalReader(self.journal.path)

    @invariant()
    def what_is_held_can_be_read(self) -> None:
        for position, payload in self.held.items():
            assert self.reader.frame_at(position) == payload

    @invariant()
    def the_counts_agree(self) -> None:
        assert self.journal.frames_written() == self.kept
        assert sum(self.journal.dropped().values()) == self.refused
        assert self.reader.dropped() == self.journal.dropped()

    @invariant()
    def the_disk_is_bounded(self) -> None:
        assert self.journal.path.stat().st_size + self.journal.path.with_suffix(".side").stat().st_size <= LIMIT

    def teardown(self) -> None:
        if not hasattr(self, "journal"):
            return
        while self.unread:
            self.read(1 << 24, False)
        self.held.clear()
        self.cursor = Cursor(self.cursor.chunks)
        self.journal.release(self.cursor)
        self.journal.close(remove=True)
        left = list((self.directory / "journal").iterdir())
        shutil.rmtree(self.directory)
        assert left == []


JournalModel.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestJournalModel = JournalModel.TestCase
