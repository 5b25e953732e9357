"""G4 across processes: a score that waits is claimed by one of them, and survives whatever becomes of that one.

Real processes, real signals. The state machine itself is tried in ``tests/unit/store/test_claims_model.py``.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support import programs, spans
from tests.support.claiming import METRICS, result
from tests.support.rows import Writer, birth, record

from tracekeeper.store.claims.claims import Claim
from tracekeeper.store.store import Store
from tracekeeper.testing import temporary_keeper

PATIENCE = 30.0

CLAIMER = """
import sys
from tracekeeper.store.store import Store

store = Store.open(sys.argv[1], busy_timeout=30)
print("ready", flush=True)
sys.stdin.readline()
turn = 0
while claims := store.claim(sys.argv[2], [("m", "v")], limit=7, lease=60.0, turn=turn):
    turn += 1
    print(*(claim.score_id for claim in claims), flush=True)
print("done", flush=True)
"""

OWNER = (
    spans.PRELUDE
    + """
from tracekeeper.journal.frames import ScoreFrame

def say(claim, status):
    k.write(ScoreFrame(
        "record", claim.name, status, bytes.fromhex(claim.trace_id), bytes.fromhex(claim.span_id), "", "v",
        value=0.25 if status == "scored" else None, attempt=claim.attempt, local=False, started=time.time_ns()))

k = keeper()
call(k)
assert k.ship(30) is None
store = k.store()
mine = store.claim(k.journal.name, [("m", "v")], limit=10, lease=LEASE)
print(len(mine), flush=True)
for line in sys.stdin:
    for number, status in (each.split("=") for each in line.split()):
        say(mine[int(number)], status)
    assert k.ship(30) is None
    print("said", flush=True)
"""
)


def waits(store: Store, count: int) -> None:
    """So many records with a score that any process can compute."""
    Writer(store, "producer").apply(*(record(birth(local=False, mode="deferred")) for _ in range(count)))


def own(directory: Path, lease: float, count: int) -> subprocess.Popen[str]:
    """A process that has claimed all of them."""
    process = programs.start(OWNER.replace("LEASE", repr(lease)), directory)
    assert programs.ready(process) == str(count)
    return process


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    assert programs.ready(process) == "said"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.02)


def status_of(store: Store) -> dict[str, int]:
    return store.score_counts()


def test_processes_that_claim_at_once_never_get_the_same_score(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}")
    waits(store, 200)
    program = programs.write(CLAIMER, tmp_path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-u", str(program), store.url, f"w{number}"],
            env=programs.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for process in processes:
        assert programs.ready(process) == "ready"
    found: list[list[int]] = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        *lines, last = out.splitlines()
        assert last == "done"
        found.append([int(each) for line in lines for each in line.split()])
    claimed = sorted(each for some in found for each in some)
    assert claimed == sorted(row.id for row in store.open_scores()), "each exactly once"
    owners = {row.id: row.owner for row in store.open_scores()}
    assert all(owners[each] == f"w{number}" for number, some in enumerate(found) for each in some)
    store.close()


def test_what_a_stopped_worker_says_when_it_wakes_up_is_refused_and_counted(tmp_path: Path) -> None:
    with temporary_keeper(tmp_path / ".tracekeeper") as keeper:
        store = keeper.store()
        waits(store, 3)
        process = own(tmp_path, 0.5, 3)
        tell(process, "0=scored 1=running")
        assert status_of(store) == {"pending": 1, "running": 1, "scored": 1}
        process.send_signal(signal.SIGSTOP)

        def lapsed() -> bool:
            store.reap(time.time_ns(), 0.5)
            return not any(row.owner for row in store.open_scores())

        until(lapsed)
        survivor = Writer(store, "survivor")
        claims: list[Claim] = []
        until(lambda: len(claims) == 2 or bool(claims.extend(store.claim("survivor", METRICS, limit=9, lease=60.0))))
        assert {(claim.attempt, claim.lost) for claim in claims} == {(2, 1)}
        result(survivor, claims[0], value=0.75)

        process.send_signal(signal.SIGCONT)
        tell(process, "1=scored 2=running 2=failed")  # one of these is final by now, the other still the survivor's
        result(survivor, claims[1], value=0.75)
        tell(process, "1=failed 2=scored")
        rows = {row.attempt: row for row in store.scores_by_key([(each.trace_id, each.span_id) for each in claims])}
        assert [(row.status, row.value) for row in rows.values()] == [("scored", 0.75)]
        assert sum(row.refused for row in store.journal_rows()) == 5
        attempts = store.attempts_of([claim.score_id for claim in claims])
        assert [(each.attempt, each.status, each.lapsed) for each in attempts] == [(1, "cancelled", 1)] * 2
        assert status_of(store) == {"scored": 3}
        process.communicate(timeout=60)


def test_a_killed_worker_loses_no_result_and_what_it_had_not_finished_is_claimed_anew(tmp_path: Path) -> None:
    with temporary_keeper(tmp_path / ".tracekeeper") as keeper:
        store = keeper.store()
        waits(store, 3)
        process = own(tmp_path, 3600.0, 3)
        tell(process, "0=scored 1=running")
        programs.kill(process)
        # Its death frees them at once: nobody waits for a lease of an hour.
        until(lambda: keeper.adopt_dead(PATIENCE) > 0 or not any(row.owner for row in store.open_scores()))
        assert status_of(store) == {"pending": 2, "scored": 1}
        claims: list[Claim] = []
        until(lambda: len(claims) == 2 or bool(claims.extend(store.claim("survivor", METRICS, limit=9, lease=60.0))))
        assert {(claim.attempt, claim.lost) for claim in claims} == {(2, 1)}
        survivor = Writer(store, "survivor")
        for claim in claims:
            result(survivor, claim)
        assert status_of(store) == {"scored": 3}
        assert sum(row.refused for row in store.journal_rows()) == 0
