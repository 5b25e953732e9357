"""G2, below the span: whatever ends a process, its frames reach the store once, and open spans are ``interrupted``."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from tests.conftest import FULL
from tests.support import programs, spans

from tracekeeper.testing import temporary_keeper

ROUNDS = 200 if FULL else 12

EIGHT_THREADS = (
    spans.PRELUDE
    + """
k = keeper()

def work(number):
    with open(f"returned_{number}", "wb", buffering=0) as account:
        for n in range(10**9):
            call(k, f"{number}.{n}")
            account.write(b".")

for number in range(8):
    threading.Thread(target=work, args=(number,), daemon=True).start()
print("running", flush=True)
sys.stdin.read()
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_kill_9_loses_no_call_that_returned(tmp_path: Path, seed: int) -> None:
    process = programs.start(EIGHT_THREADS, tmp_path)
    programs.ready(process)
    time.sleep(random.Random(seed).uniform(0.0, 0.5))  # the moment of the kill, not a synchronisation
    programs.kill(process)
    data = tmp_path / ".tracekeeper"
    with temporary_keeper(data) as keeper:
        assert keeper.adopt_dead(60) == 1
    assert spans.journals(data) == []
    assert spans.doubled(data) == []
    ended = {name for name, status in spans.stored(data) if status == "ok"}
    for number in range(8):
        account = tmp_path / f"returned_{number}"
        returned = len(account.read_bytes()) if account.exists() else 0
        assert {f"{number}.{n}" for n in range(returned)} <= ended
    assert set(spans.statuses(data)) <= {"ok", "interrupted"}
    assert spans.statuses(data).get("interrupted", 0) <= 8


ENDINGS = {
    "returns": ("pass", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "raises": ("raise ValueError('theirs')", 1),
    "os._exit": ("os._exit(4)", 4),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); signal.pause()", -signal.SIGTERM),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "Ctrl-C": ("try: raise KeyboardInterrupt\nexcept KeyboardInterrupt: sys.exit(130)", 130),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_keeps_every_call(tmp_path: Path, ending: str) -> None:
    line, code = ENDINGS[ending]
    done = programs.run(
        spans.PRELUDE
        + f"""
k = keeper()
for n in range(100):
    call(k, str(n))
open_one = begin(k, "open")
checkpoint(k, open_one, "so far")
{line}
""",
        tmp_path,
    )
    assert done.code == code, done.err
    data = tmp_path / ".tracekeeper"
    with temporary_keeper(data) as keeper:
        assert keeper.ship(30) is None
    assert spans.statuses(data) == {"ok": 100, "interrupted": 1}
    assert spans.stored(
        data, "SELECT p.output FROM span s JOIN payload p ON p.id = s.id WHERE s.status = 'interrupted'"
    ) == [('"so far"',)]
    assert spans.journals(data) == []
    assert done.seconds < 30


FORKS = {
    "os.fork": """
for _ in range(3):
    if os.fork() == 0:
        for n in range(10): call(k, "child")
        os._exit(0)
for _ in range(3): os.wait()
""",
    "os.fork, normal exit": """
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        for n in range(10): call(k, "child")
        sys.exit(0)
    children.append(pid)
for pid in children: assert os.waitpid(pid, 0)[1] == 0
""",
    "multiprocessing": """
import multiprocessing
def work():
    for n in range(10): call(k, "child")
context = multiprocessing.get_context("fork")
children = [context.Process(target=work) for _ in range(3)]
for child in children: child.start()
for child in children: child.join()
assert [child.exitcode for child in children] == [0, 0, 0]
""",
    "ProcessPoolExecutor": """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
def work(n):
    return call(k, "child")
with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
    assert all(pool.map(work, range(30)))
""",
}


@pytest.mark.parametrize("way", FORKS)
@pytest.mark.parametrize("busy", [False, True], ids=["idle parent", "parent that has shipped"])
def test_a_forked_child_keeps_its_calls_and_leaves_the_parents_alone(tmp_path: Path, way: str, busy: bool) -> None:
    done = programs.run(
        spans.PRELUDE
        + f"""
k = keeper()
for n in range(20): call(k, "parent")
if {busy}:
    assert k.ship(30) is None
still_open = begin(k, "parent")
{FORKS[way]}
end(k, still_open)
assert k.ship(30) is None
receipt = k.receipt(30)
print(receipt.journaled, receipt.stored, receipt.complete)
""",
        tmp_path,
        timeout=60,
    )
    assert done.code == 0, done.err
    assert done.out.split() == ["21", "21", "True"], done.err
    data = tmp_path / ".tracekeeper"
    found = [name for name, status in spans.stored(data) if status == "ok"]
    assert sorted(found) == ["child"] * 30 + ["parent"] * 21, "the parent's read adopts its children's journals"
    assert spans.doubled(data) == []


def test_a_child_that_outlives_its_parent_goes_on_storing(tmp_path: Path) -> None:
    done = programs.run(
        spans.PRELUDE
        + """
k = keeper()
call(k, "parent")
assert k.ship(30) is None
read, write = os.pipe()
if os.fork() == 0:
    os.close(write)
    os.read(read, 1)  # until the parent is gone
    call(k, "child")
    reason = k.ship(30)
    with open("child.tmp", "w") as file: file.write(repr(reason))
    os.rename("child.tmp", "child")
    os._exit(0)
""",
        tmp_path,
    )
    assert done.code == 0, done.err
    deadline = time.monotonic() + 30
    while not (tmp_path / "child").exists() and time.monotonic() < deadline:
        time.sleep(0.02)  # a grandchild: nobody here can wait for it
    assert (tmp_path / "child").read_text() == "None"
    assert sorted(spans.stored(tmp_path / ".tracekeeper")) == [("child", "ok"), ("parent", "ok")]


def test_a_fork_in_the_middle_of_everything_does_not_hang_the_child(tmp_path: Path) -> None:
    """The database layer is being imported, and the store made, while the process forks again and again."""
    done = programs.run(
        spans.PRELUDE
        + """
k = keeper()
children = []
for n in range(8):
    call(k, "parent")
    time.sleep(0.03 * n)  # moments of the first shipment
    pid = os.fork()
    if pid == 0:
        import sqlalchemy
        call(k, "child")
        os._exit(0 if k.ship(20) is None else 9)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 8
assert k.ship(30) is None
""",
        tmp_path,
        timeout=90,
    )
    assert done.code == 0, done.err
    names = [name for name, _ in spans.stored(tmp_path / ".tracekeeper")]
    assert sorted(names) == ["child"] * 8 + ["parent"] * 8


@pytest.mark.parametrize("handler", ["default", "callable", "ignored"])
def test_the_sigterm_handler_leaves_properly_and_hands_on(tmp_path: Path, handler: str) -> None:
    before = {
        "default": "",
        "callable": "signal.signal(signal.SIGTERM, lambda *_: (print('theirs', flush=True), sys.exit(7)))",
        "ignored": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    }[handler]
    process = programs.start(
        spans.PRELUDE
        + f"""
{before}
tk.configure(sigterm=True)
k = keeper()
for n in range(50): call(k)
begin(k, "open")
print("ready", flush=True)
sys.stdin.readline()
print("went on", flush=True)
""",
        tmp_path,
    )
    programs.ready(process)
    data = tmp_path / ".tracekeeper"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate("\n" if handler == "ignored" else None, timeout=30)
    expected = {"default": (-signal.SIGTERM, ""), "callable": (7, "theirs\n"), "ignored": (0, "went on\n")}
    assert (process.returncode, out) == expected[handler], err
    statuses = spans.statuses(data)
    assert statuses["ok"] == 50, "stored by the process itself, nobody else has looked yet"


def test_a_stopped_process_is_alive(tmp_path: Path) -> None:
    process = programs.start(
        spans.PRELUDE
        + """
k = keeper()
call(k, "before")
begin(k, "open")
assert k.ship(30) is None
print("ready", flush=True)
sys.stdin.readline()
call(k, "after")
assert k.ship(30) is None
print("done", flush=True)
sys.stdin.readline()
""",
        tmp_path,
    )
    programs.ready(process)
    process.send_signal(signal.SIGSTOP)
    data = tmp_path / ".tracekeeper"
    try:
        with temporary_keeper(data) as keeper:
            assert keeper.adopt_dead(5) == 0
            assert spans.statuses(data) == {"ok": 1, "running": 1}
            process.send_signal(signal.SIGCONT)
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            assert programs.ready(process) == "done"
            assert spans.statuses(data) == {"ok": 2, "running": 1}
            programs.kill(process)
            assert keeper.adopt_dead(30) == 1
            assert spans.statuses(data) == {"ok": 2, "interrupted": 1}
    finally:
        if process.poll() is None:
            programs.kill(process)


def test_two_writers_and_a_reader_share_a_directory(tmp_path: Path) -> None:
    program = (
        spans.PRELUDE
        + """
k = keeper()
print("ready", flush=True)
sys.stdin.readline()
for n in range(3000): call(k, str(n))
"""
    )
    writers = [programs.start(program, tmp_path) for _ in range(2)]
    for writer in writers:
        programs.ready(writer)
    data = tmp_path / ".tracekeeper"
    seen = 0
    with temporary_keeper(data) as keeper:
        keeper.store()
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        while any(writer.poll() is None for writer in writers):
            assert keeper.ship(30) is None
            now = len(spans.stored(data))
            assert now >= seen, "nothing that was there goes away"
            seen = now
        for writer in writers:
            _, err = writer.communicate(timeout=30)
            assert writer.returncode == 0, err
            assert not err or "the next program that uses it stores" in err, "three share two processors and one lock"
        assert keeper.ship(30) is None
    assert spans.statuses(data) == {"ok": 6000}
    assert spans.doubled(data) == []


def test_what_is_traced_after_our_own_exit_is_kept(tmp_path: Path) -> None:
    done = programs.run(
        """
import atexit
atexit.register(lambda: call(keeper(), "last words"))  # registered first, so it runs after ours
"""
        + spans.PRELUDE
        + """
call(keeper(), "ordinary")
""",
        tmp_path,
    )
    assert done.code == 0, done.err
    data = tmp_path / ".tracekeeper"
    with temporary_keeper(data) as keeper:
        assert keeper.ship(30) is None
    assert sorted(spans.stored(data)) == [("last words", "ok"), ("ordinary", "ok")]


def test_threads_that_fork_at_once_leave_the_shipper_working(tmp_path: Path) -> None:
    done = programs.run(
        spans.PRELUDE
        + """
k = keeper()
call(k, "parent")
assert k.ship(30) is None
def work():
    for _ in range(5):
        call(k, "parent")
        pid = os.fork()
        if pid == 0:
            call(k, "child")
            os._exit(0)
        os.waitpid(pid, 0)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert k.ship(30) is None
""",
        tmp_path,
        timeout=60,
    )
    assert done.code == 0, done.err
    names = [name for name, _ in spans.stored(tmp_path / ".tracekeeper")]
    assert sorted(names) == ["child"] * 20 + ["parent"] * 21
