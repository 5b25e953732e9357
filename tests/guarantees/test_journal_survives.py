"""G2 at its root: a frame whose write returned is in the journal, whatever happens to the process, in whatever company.

Real threads, real signals, real finalisers, real forks and a real ``kill -9``.
"""

from __future__ import annotations

import gc
import os
import random
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.conftest import FULL
from tests.support import garbage

from tracekeeper.journal import liveness
from tracekeeper.journal.cursor import Cursor
from tracekeeper.journal.reader import JournalReader
from tracekeeper.journal.writer import Journal
from tracekeeper.types import JournalError

ROUNDS = 200 if FULL else 12
SRC = Path(__file__).parents[2] / "src"
THREADS = 8
Mode = Literal["mmap", "write"]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes and signals")


def everything(reader: JournalReader, cursor: Cursor | None = None) -> list[bytes]:
    frames, lost = [], 0
    cursor = cursor or Cursor()
    while True:
        found, cursor, damaged = reader.read(cursor, max_bytes=1 << 20)
        lost += damaged
        if not found and not damaged:
            assert lost == 0
            return frames
        frames += [payload for _, payload in found]


def run(program: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        stdout=subprocess.PIPE,
        **options,
    )


@pytest.mark.parametrize("mode", ["mmap", "write"])
def test_eight_threads_and_a_reader_each_frame_once_and_no_end_without_its_start(tmp_path: Path, mode: Mode) -> None:
    journal = Journal.open(tmp_path, destination={}, mode=mode)
    each = 4_000
    done = threading.Event()
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    seen: dict[tuple[int, int, str], int] = {}
    faults: list[str] = []

    def work(thread: int) -> None:
        write = journal.write
        for number in range(each):
            start, end = struct.pack("=HIs", thread, number, b"s"), struct.pack("=HIs", thread, number, b"e")
            if number % 500 == 0:
                start += b"." * 100_000
            if not (write(start) and write(end)):
                faults.append(f"{thread} {number}: {journal.dropped()}")

    def ship() -> None:
        """What the shipper does: read, release, maintain, again and again; each read is checked by itself."""
        reader, cursor = journal.reader(), Cursor()
        while True:
            last = done.is_set()
            frames, cursor, damaged = reader.read(cursor, max_bytes=200_000)
            if damaged:
                faults.append(f"damaged {damaged}")
            for _, payload in frames:
                thread, number, kind = struct.unpack_from("=HIs", payload)
                key = (thread, number, kind.decode())
                seen[key] = seen.get(key, 0) + 1
            faults.extend(
                f"an end without its start: {key}"
                for key in ((t, n, k) for t, n, k in map(_key, frames) if k == "e")
                if (key[0], key[1], "s") not in seen
            )
            journal.release(cursor)
            journal.maintain()
            if last and not frames:
                return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    shipper = threading.Thread(target=ship)
    try:
        for thread in [*threads, shipper]:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        shipper.join()
    finally:
        sys.setswitchinterval(switch)
    assert faults == []
    assert len(seen) == THREADS * each * 2
    assert set(seen.values()) == {1}
    assert journal.frames_written() == THREADS * each * 2
    journal.close(remove=True)
    assert list((tmp_path / "journal").iterdir()) == []


def _key(frame: tuple[Any, bytes]) -> tuple[int, int, str]:
    thread, number, kind = struct.unpack_from("=HIs", frame[1])
    return thread, number, kind.decode()


WRITES_UNTIL_KILLED = """
import mmap, struct, sys, threading
from pathlib import Path
from tracekeeper.journal.cursor import Cursor
from tracekeeper.journal.writer import Journal

journal = Journal.open(Path(sys.argv[1]), destination={}, mode=sys.argv[2])
with open(sys.argv[3], "r+b") as file:
    acknowledged = memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")
journal.count_drop("counted before the kill", 3)

def work(thread):
    number = 0
    while True:
        payload = struct.pack("=HI", thread, number) + b"." * (100_000 if number % 400 == 7 else number % 300)
        if not journal.write(payload):
            break
        number += 1
        acknowledged[thread] = number     # this many writes of this thread have returned

for thread in range(8):
    threading.Thread(target=work, args=(thread,), daemon=True).start()
print("up", flush=True)
while True:
    journal.maintain()
    threading.Event().wait(0.01)
"""


@pytest.mark.parametrize("mode", ["mmap", "write"])
def test_every_frame_whose_write_returned_survives_kill_9(tmp_path: Path, mode: Mode) -> None:
    chance = random.Random(os.urandom(8))
    for number in range(ROUNDS // 2):
        data, counts = tmp_path / str(number), tmp_path / f"{number}.counts"
        counts.write_bytes(bytes(4096))
        process = run(WRITES_UNTIL_KILLED, str(data), mode, str(counts))
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        # A random moment: the wait ends early only if the process dies by itself.
        select.select([process.stdout], [], [], chance.uniform(0, 0.15))
        process.kill()
        process.communicate()
        acknowledged = struct.unpack_from(f"={THREADS}Q", counts.read_bytes())
        (path,) = (data / "journal").glob("*.journal")
        held = liveness.adopt(path)
        assert held is not None
        reader = JournalReader(path)
        found: dict[int, list[int]] = {thread: [] for thread in range(THREADS)}
        for payload in everything(reader):
            thread, position = struct.unpack_from("=HI", payload)
            found[thread].append(position)
        for thread, positions in found.items():
            assert positions == list(range(len(positions)))  # each once, in order, without a gap
            # The frame in flight may be there too: written, but the kill came before it could be counted.
            assert acknowledged[thread] <= len(positions) <= acknowledged[thread] + 1
        assert sum(acknowledged) > 0
        assert reader.dropped() == {"counted before the kill": 3}
        assert sum(acknowledged) <= reader.frames_written() <= sum(acknowledged) + THREADS
        held.release()


@pytest.fixture
def timer() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Runs a function from a signal handler every millisecond."""
    before = signal.getsignal(signal.SIGALRM)

    def start(function: Callable[[], None]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: function())
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("mode", ["mmap", "write"])
def test_a_signal_handler_may_write_in_the_middle_of_a_write(
    tmp_path: Path, mode: Mode, timer: Callable[[Callable[[], None]], None]
) -> None:
    journal = Journal.open(tmp_path, destination={}, mode=mode)
    nested = depth = 0

    def handler() -> None:
        nonlocal nested, depth
        if depth > 3:  # on a slow machine a handler takes longer than a millisecond, and meets the next signal
            return
        depth += 1
        number, nested = nested, nested + 1
        assert journal.write(b"n%d" % number + b"." * (70_000 if number % 50 == 0 else 0))
        depth -= 1

    timer(handler)
    outer = 0
    while nested < 200:
        assert journal.write(b"o%d" % outer)
        outer += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    frames = everything(journal.reader())
    assert [frame for frame in frames if frame[:1] == b"o"] == [b"o%d" % number for number in range(outer)]
    assert {frame.rstrip(b".") for frame in frames if frame[:1] == b"n"} == {b"n%d" % n for n in range(nested)}
    assert len(frames) == outer + nested


@pytest.mark.parametrize("mode", ["mmap", "write"])
def test_what_a_signal_handler_raises_loses_no_frame_and_no_chunk(
    tmp_path: Path, mode: Mode, timer: Callable[[Callable[[], None]], None]
) -> None:
    journal = Journal.open(tmp_path, destination={}, mode=mode)

    class Deadline(Exception):
        pass

    inside = False

    def handler() -> None:
        if inside:
            raise Deadline

    timer(handler)
    interrupted = begun = 0
    while interrupted < 300:
        payload = b"%d" % begun
        begun += 1
        inside = True
        try:
            for _ in range(50):
                journal.write(payload)
        except Deadline:
            inside = False
            interrupted += 1
        inside = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert journal.frames_written() == len(everything(journal.reader()))
    space = journal._space
    assert len(space.chunks) == len(journal._pool) + len(journal._full) + len(space.spare)
    assert journal.dropped() == {}


def test_finalisers_may_write_whenever_the_collector_runs(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, destination={})
    threshold = gc.get_threshold()
    finalised = 0

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            nonlocal finalised
            assert journal.write(b"f%d" % finalised)
            finalised += 1

    gc.set_threshold(1, 1, 1)
    try:
        for number in range(2_000):
            Cycle()
            assert journal.write(b"o%d" % number + b"." * (70_000 if number % 500 == 0 else 0))
    finally:
        gc.set_threshold(*threshold)
    garbage.collect()
    frames = everything(journal.reader())
    assert finalised == 2_000
    assert sorted(frame.rstrip(b".") for frame in frames) == sorted(
        [b"o%d" % number for number in range(2_000)] + [b"f%d" % number for number in range(2_000)]
    )


@pytest.mark.parametrize("mode", ["mmap", "write"])
def test_a_fork_in_the_middle_of_writes_disturbs_neither_side(tmp_path: Path, mode: Mode) -> None:
    """Forks in a process of its own, while its threads write; every child tries to write to the parent's journal."""
    program = """
import os, sys, threading
from pathlib import Path
from tracekeeper.journal.writer import Journal
journal = Journal.open(Path(sys.argv[1]), destination={}, mode=sys.argv[2])
done = threading.Event()
counts = [0] * 4
def work(thread):
    while not done.is_set():
        assert journal.write(b"%d %d" % (thread, counts[thread]))
        counts[thread] += 1
threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
for thread in threads: thread.start()
for number in range(20):
    child = os.fork()
    if child == 0:
        try:
            assert not journal.write(b"from the child")
            journal.forget()
            journal.maintain()
            own = Journal.open(Path(sys.argv[1]), destination={}, mode=sys.argv[2])
            assert own.write(b"child %d" % number)
            own.close(remove=False)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
done.set()
for thread in threads: thread.join()
print(journal.path, sum(counts))
journal.close(remove=True)
"""
    process = run(program, str(tmp_path), mode)
    output, _ = process.communicate()
    assert process.returncode == 0
    name, count = output.split()
    frames = everything(JournalReader(Path(name.decode())))
    assert len(frames) == int(count)
    assert len(set(frames)) == len(frames)
    assert b"from the child" not in frames
    others = [path for path in (tmp_path / "journal").glob("*.journal") if str(path) != name.decode()]
    assert sorted(everything(JournalReader(path))[0] for path in others) == sorted(b"child %d" % n for n in range(20))


@pytest.mark.parametrize("mode", ["mmap", "write"])
def test_a_fork_from_a_signal_handler_in_the_middle_of_a_write(tmp_path: Path, mode: Mode) -> None:
    """The write that was under way comes to its end in the child too, without touching the parent's journal."""
    program = """
import os, signal, sys, traceback
from pathlib import Path
from tracekeeper.journal.cursor import Cursor
from tracekeeper.journal.writer import Journal
journal = Journal.open(Path(sys.argv[1]), destination={}, mode=sys.argv[2])
children, parent = [], os.getpid()
def handler(*_):
    if os.getpid() == parent and len(children) < 60:
        child = os.fork()
        if child:
            children.append(child)
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
kept = []
number = 0
try:
    while len(children) < 60:
        payload = b"%d " % number + b"." * (90_000 if number % 9 == 0 else 20_000)
        if os.getpid() != parent:
            break
        written = journal.write(payload)
        if os.getpid() != parent:
            break
        if written:
            kept.append(number)
        else:
            _, cursor, _ = journal.reader().read(Cursor(), max_bytes=1 << 30)
            if os.getpid() != parent:
                break
            kept.clear()
            journal.release(cursor)
        number += 1
    if os.getpid() != parent:
        assert not journal.write(b"from the child")
        os._exit(0)
except BaseException:
    traceback.print_exc()
    os._exit(1)
signal.setitimer(signal.ITIMER_REAL, 0)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
frames, _, damaged = journal.reader().read(Cursor(), max_bytes=1 << 30)
numbers = [int(payload.split()[0]) for _, payload in frames]
assert damaged == 0, damaged
assert numbers[len(numbers) - len(kept):] == kept
print("good")
"""
    process = run(program, str(tmp_path), mode)
    output, _ = process.communicate()
    assert (process.returncode, output) == (0, b"good\n")


@pytest.mark.parametrize("mode", ["mmap", "write"])
def test_a_limit_on_file_sizes_is_counted_and_recovers_when_it_is_lifted(tmp_path: Path, mode: Mode) -> None:
    program = """
import resource, sys
from pathlib import Path
from tracekeeper.journal.cursor import Cursor
from tracekeeper.journal.writer import Journal
journal = Journal.open(Path(sys.argv[1]), destination={}, mode=sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
kept = 0
while journal.write(b"%d " % kept + b"." * 5_000): kept += 1
assert not journal.write(b"x" * 60_000)
assert not journal.write(b"x" * 3_000_000)
reasons = journal.dropped()
assert all("EFBIG" in reason for reason in reasons), reasons
assert sum(reasons.values()) == 3, reasons
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
journal.maintain()
for _ in range(200):
    assert journal.write(b"%d " % kept + b"." * 5_000)
    kept += 1
frames, _, damaged = journal.reader().read(Cursor(), max_bytes=1 << 30)
assert [int(payload.split()[0]) for _, payload in frames] == list(range(kept))
assert damaged == 0
print("good")
"""
    process = run(program, str(tmp_path), mode)
    output, _ = process.communicate()
    assert (process.returncode, output) == (0, b"good\n")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="drops the rights of root")
def test_a_directory_that_may_not_be_written_is_named() -> None:
    # Not below tmp_path, whose parents only root may enter: it is the data directory that has to refuse.
    place = tempfile.TemporaryDirectory()
    data = Path(place.name)
    data.chmod(0o755)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            try:
                Journal.open(data, destination={})
            except JournalError as error:
                code = 0 if str(data) in str(error) and "EACCES" in str(error) else 2
        finally:
            os._exit(code)
    with place:
        assert os.waitpid(child, 0)[1] == 0


def test_a_reader_in_another_process_follows_a_living_journal(tmp_path: Path) -> None:
    """It sees frames in order and none twice, while the writer recycles its chunks under it."""
    program = """
import sys
from pathlib import Path
from tracekeeper.journal.cursor import Cursor
from tracekeeper.journal.reader import JournalReader
reader, cursor, last = JournalReader(Path(sys.argv[1])), Cursor(), -1
print("up", flush=True)
while last < int(sys.argv[2]):
    frames, cursor, damaged = reader.read(cursor, max_bytes=100_000)
    assert not damaged, damaged
    for _, payload in frames:
        number = int(payload.split()[0])
        assert number > last, (number, last)
        last = number
print("good")
"""
    journal = Journal.open(tmp_path, destination={}, limit=1 << 20)
    total = 30_000
    process = run(program, str(journal.path), str(total - 1))
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    reader, cursor = journal.reader(), Cursor()
    for number in range(total):
        while not journal.write(b"%d " % number + b"." * (number % 400)):
            _, cursor, _ = reader.read(cursor)
            journal.release(cursor)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, b"good\n")
