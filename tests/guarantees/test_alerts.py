"""An alert's transition is made once and told at least once, whichever processes check, and whichever of them die."""

from __future__ import annotations

import http.server
import json
import queue
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import programs

import tracekeeper as tk
from tracekeeper.scoring.alerts import deliveries
from tracekeeper.scoring.alerts.checks import check_alerts
from tracekeeper.testing import temporary_keeper
from tracekeeper.types import faults

CHECKS = """
    import sys
    import tracekeeper as tk
    from tracekeeper.scoring.alerts import deliveries
    from tracekeeper.scoring.alerts.checks import check_alerts
    from tracekeeper.tracing import runtime
    from tracekeeper.types import faults

    tk.configure(directory="data")

    def hold():
        print("measured", flush=True)
        sys.stdin.readline()

    faults.arm("alerts.measured", hold)
    print("made", check_alerts(runtime.keeper()), flush=True)
    deliveries.wait(30)
"""

DIES = """
    import tracekeeper as tk
    from tracekeeper.scoring.alerts.checks import check_alerts
    from tracekeeper.tracing import runtime
    from tracekeeper.types import faults

    tk.configure(directory="data")
    faults.arm({point!r}, faults.killing())
    check_alerts(runtime.keeper())
    from tracekeeper.scoring.alerts import deliveries
    deliveries.wait(30)
    print("alive", flush=True)
"""

MESSAGE = "slow: mean latency is 5.0s, above 2.0s (n = 1 in the last 1h)"

Messages = queue.SimpleQueue[tuple[str, dict[str, Any]]]


@contextmanager
def receiver() -> Iterator[tuple[str, Messages]]:
    """A server that takes webhooks: its URL, and what came, by webhook-id."""
    got: Messages = queue.SimpleQueue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            got.put((self.headers["webhook-id"], json.loads(body)))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def slow_calls(directory: Path, url: str) -> None:
    """A store in which an alert has every reason to fire."""
    with temporary_keeper(directory) as keeper:
        tk.log_record(input="q", output="a", app="rag", duration=5)
        assert keeper.ship(20) is None
        tk.alert("slow", measure="latency", above=2, webhook=url, allow_private=True)


def test_two_processes_that_check_at_once_make_one_event_and_send_one_message(tmp_path: Path) -> None:
    with receiver() as (url, got):
        slow_calls(tmp_path / "data", url)
        both = [programs.start(CHECKS, tmp_path) for _ in range(2)]
        try:
            assert [programs.ready(each) for each in both] == ["measured"] * 2, (
                "both know that it is past its threshold"
            )
            said = []
            for each in both:
                assert each.stdin is not None
                each.stdin.write("go\n")
                each.stdin.flush()
            for each in both:
                out, err = each.communicate(timeout=60)
                assert each.returncode == 0, err
                said.append(out.strip())
        finally:
            for each in both:
                if each.poll() is None:
                    programs.kill(each)
        assert sorted(said) == ["made 0", "made 1"]
        key, message = got.get(timeout=30)
        assert message["type"] == "alert.fired"
        assert got.empty()
        with temporary_keeper(tmp_path / "data") as keeper:
            [event] = keeper.store().alerts.events(1)
        assert (event.key, event.kind, event.delivery) == (key, "fired", "delivered")


def test_what_was_committed_is_delivered_although_its_process_was_killed_before_it_sent(tmp_path: Path) -> None:
    with receiver() as (url, got):
        slow_calls(tmp_path / "data", url)
        died = programs.run(DIES.format(point="alerts.conclude.committed"), tmp_path)
        assert died.code == -9, died.err
        assert got.empty()
        with temporary_keeper(tmp_path / "data") as keeper:
            assert check_alerts(keeper) == 0, "the transition was made"
            assert deliveries.wait(30)
            [event] = keeper.store().alerts.events(1)
        assert event.delivery == "delivered"
        assert got.get(timeout=30)[0] == event.key


def test_before_the_commit_nothing_has_happened(tmp_path: Path) -> None:
    with receiver() as (url, got):
        slow_calls(tmp_path / "data", url)
        died = programs.run(DIES.format(point="alerts.conclude.commit"), tmp_path)
        assert died.code == -9, died.err
        with temporary_keeper(tmp_path / "data") as keeper:
            assert keeper.store().alerts.events(1) == []
            assert check_alerts(keeper) == 1
            assert deliveries.wait(30)
        assert got.get(timeout=30)[1]["data"]["alert"] == "slow"
        assert got.empty()


def test_killed_after_it_sent_and_before_it_wrote_that_down_it_is_sent_again_by_the_same_id(tmp_path: Path) -> None:
    with receiver() as (url, got):
        slow_calls(tmp_path / "data", url)
        died = programs.run(DIES.format(point="alerts.sent"), tmp_path)
        assert died.code == -9, died.err
        first, _ = got.get(timeout=30)
        with temporary_keeper(tmp_path / "data") as keeper:
            [event] = keeper.store().alerts.events(1)
            assert (event.delivery, event.attempts) == ("pending", 1)
            assert event.next_at is not None
            assert check_alerts(keeper) == 0
            assert deliveries.wait(30)
            assert got.empty(), "until its lease is over it may still be at it"
            deliveries.send_due(keeper, event.next_at)
            assert deliveries.wait(30)
            [event] = keeper.store().alerts.events(1)
        assert (event.delivery, event.attempts) == ("delivered", 2)
        assert got.get(timeout=30)[0] == first == event.key


ENDS = """
    import sys
    import tracekeeper as tk
    from tracekeeper.scoring.alerts.checks import check_alerts
    from tracekeeper.tracing import runtime

    tk.configure(directory="data")
    print("made", check_alerts(runtime.keeper()), flush=True)
    sys.stdin.readline()
"""


def test_a_receiver_that_never_answers_does_not_keep_a_process_from_ending(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        slow_calls(tmp_path / "data", f"http://127.0.0.1:{deaf.getsockname()[1]}/hook")
        process = programs.start(ENDS, tmp_path)
        try:
            assert programs.ready(process) == "made 1"
            deaf.settimeout(30)
            connection, _ = deaf.accept()
            began = time.monotonic()
            _, err = process.communicate("go\n", timeout=30)
            assert (process.returncode, err) == (0, "alert " + MESSAGE + "\n")
            assert time.monotonic() - began < 6, "the webhook alone has ten seconds"
            connection.close()
        finally:
            if process.poll() is None:
                programs.kill(process)
    with temporary_keeper(tmp_path / "data") as keeper:
        [event] = keeper.store().alerts.events(1)
        assert (event.delivery, event.attempts) == ("pending", 1), "another process tries it after the lease"


def test_what_came_of_sending_is_written_down_although_the_database_is_locked_for_a_while(tmp_path: Path) -> None:
    with receiver() as (url, got):
        slow_calls(tmp_path / "data", url)
        with temporary_keeper(tmp_path / "data") as keeper:
            path = keeper.store().path
            other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

            def lock() -> None:
                other.execute("BEGIN IMMEDIATE")
                threading.Timer(1.5, other.execute, ("ROLLBACK",)).start()

            with faults.armed("alerts.sent", lock):
                assert check_alerts(keeper) == 1
                assert deliveries.wait(30)
            other.close()
            [event] = keeper.store().alerts.events(1)
        assert (event.delivery, event.attempts) == ("delivered", 1)
        got.get(timeout=30)
        assert got.empty()
