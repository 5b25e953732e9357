"""What docs/web.md and docs/recipes.md show, run as they show it: real servers, signals, processes and containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.failures.test_trulens import tk_in
from tests.support import programs
from tests.support.programs import environment
from tests.support.spans import stored

import tracekeeper as tk

DOCS = Path(__file__).resolve().parents[2] / "docs"
WAIT = 30


def block(page: str, containing: str, language: str = "python") -> str:
    """The one program of a page that contains this."""
    found = re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    [program] = [each for each in found if containing in each]
    return str(program)


def module(folder: Path, page: str, name: str, more: str = "") -> None:
    """Write a program of a page into the file that its first line names."""
    (folder / name).write_text(block(page, f"# {name}") + more)


@contextmanager
def serving(folder: Path, arguments: list[str], said: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server's command in a folder; its process and URL, taken from what it logs."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(rf"{said}.*?(http://127\.0\.0\.1:\d+)", line):
            break
    else:
        raise AssertionError("".join(lines))
    rest = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
    rest.start()
    try:
        yield process, found[1]
    finally:
        process.kill()
        process.wait(WAIT)
        rest.join(WAIT)
        process.stderr.close()


def test_fastapi_as_the_page_shows_it(tmp_path: Path) -> None:
    module(tmp_path, "web.md", "main.py")
    [command] = re.findall(r"```sh\n(uvicorn .*?)\n```", (DOCS / "web.md").read_text(encoding="utf-8"))
    with serving(tmp_path, [*command.split(), "--port", "0"], "Uvicorn running on") as (process, url):
        with httpx.Client(base_url=url, timeout=WAIT) as client:
            for number in range(10):
                answer = client.get(
                    "/ask",
                    params={"question": f"q{number}", "tenant": f"t{number}"},
                    headers={"x-session-id": f"s{number}", "cookie": f"user=u{number}"},
                )
                assert answer.json() == {"answer": f"It is mild: q{number}"}
            with client.stream("GET", "/stream", params={"question": "x", "tenant": "t"}) as streamed:
                assert streamed.read() == b"It is mild."
            assert client.get("/health").json() == "ok"
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT)
    with tk_in(tmp_path):
        records = tk.records(filter='app = "rag"')
        assert sorted(
            (record.input["question"], *record.tags, record.session_id, record.user_id) for record in records
        ) == [(f"q{n}", f"tenant:t{n}", f"s{n}", f"u{n}") for n in range(10)]
        assert [str(score.value) for record in records for score in record.scores.values()] == ["True"] * 10
        [stream] = tk.records(filter='app = "rag-stream"')
        assert (stream.output, stream.tags, str(stream.status)) == ("It is mild.", ("tenant:t",), "ok")


MORE = """

import os


@app.get("/pid")
def pid() -> int:
    return os.getpid()


@app.get("/hang")
def hang() -> None:
    hangs()


@tk.app(name="hangs", version="1")
def hangs() -> None:
    with open("hanging", "w") as fifo:
        fifo.write(str(os.getpid()))
    import threading

    threading.Event().wait()
"""


def test_gunicorn_with_preload_loses_nothing(tmp_path: Path) -> None:
    module(tmp_path, "recipes.md", "service.py", MORE)
    os.mkfifo(tmp_path / "hanging")
    command = re.findall(r"```sh\n(gunicorn .*?)\n```", (DOCS / "recipes.md").read_text(encoding="utf-8"))[0]
    arguments = command.replace("127.0.0.1:8000", "127.0.0.1:0").split()

    def get(question: str) -> str:
        with httpx.Client(base_url=url, timeout=WAIT) as client:  # a connection of its own, so of any worker
            return str(client.get("/ask", params={"question": question}).raise_for_status().json())

    with serving(tmp_path, arguments, "Listening at:") as (master, url):
        workers: set[int] = set()
        with httpx.Client(base_url=url, timeout=WAIT) as client:
            client.get("/pid").raise_for_status()
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(get, (f"a{n}" for n in range(100)))) == [f"answer to a{n}" for n in range(100)]
        hung = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=WAIT)
        hung.sendall(b"GET /hang HTTP/1.1\r\nhost: test\r\n\r\n")
        victim = int((tmp_path / "hanging").read_text())
        os.kill(victim, signal.SIGKILL)
        assert hung.recv(100) == b"", "its connection goes with it"
        hung.close()
        for _ in range(200):
            with httpx.Client(base_url=url, timeout=WAIT) as client:
                workers.add(client.get("/pid").json())
            if len(workers) == 2:
                break
        assert len(workers) == 2, "the master has started another one"
        assert victim not in workers
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(get, (f"b{n}" for n in range(100)))) == [f"answer to b{n}" for n in range(100)]
        master.send_signal(signal.SIGTERM)
        assert master.wait(WAIT) == 0
    asked = sorted(["is anybody there?", *(f"{part}{n}" for part in "ab" for n in range(100))])
    with tk_in(tmp_path):
        records = tk.records(filter='app = "service"', limit=1000, timeout=60)
        assert sorted(record.input["question"] for record in records) == asked, "each answered call, once"
        assert {str(record.status) for record in records} == {"ok"}
        [hanging] = tk.records(filter='app = "hangs"')
        assert str(hanging.status) == "interrupted"
    done = subprocess.run(
        [sys.executable, "-m", "tracekeeper", "worker", "--once"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with tk_in(tmp_path):
        states = {str(score.status) for record in tk.records(limit=1000) for score in record.scores.values()}
        assert states == {"scored"}, "also what the killed worker had not judged"


FUNCTION = """
    import json, sys
    sys.path.insert(0, {folder!r})
    from handler import handler
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(handler(json.loads(line), None)), flush=True)
"""


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells by /proc whether a process is stopped")
def test_a_process_that_is_frozen_between_calls_has_stored_each(tmp_path: Path) -> None:
    """Home and working directory are in /proc, where nobody can write, not even root."""
    (tmp_path / "handler.py").write_text(
        block("recipes.md", "# handler.py").replace("/tmp/tracekeeper", f"{tmp_path}/data")
    )
    program = programs.write(FUNCTION.format(folder=str(tmp_path)), tmp_path)
    function = subprocess.Popen(
        [sys.executable, "-u", str(program)],
        cwd="/proc", env=environment(HOME="/proc", XDG_CACHE_HOME="/proc", XDG_DATA_HOME="/proc"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        call_and_freeze(function, tmp_path / "data")
    finally:
        function.kill()
        _, errors = function.communicate(timeout=WAIT)
    assert errors == ""


def call_and_freeze(function: subprocess.Popen[str], directory: Path) -> None:
    """Ten calls; the process stands still after each, and the last thing that happens to it is being killed so."""
    assert function.stdin is not None
    assert programs.ready(function) == "ready"
    for number in range(10):
        function.stdin.write(json.dumps({"question": f"q{number}"}) + "\n")
        function.stdin.flush()
        answer = json.loads(programs.ready(function))
        assert answer == {"answer": f"answer to q{number}", "stored": True}
        function.send_signal(signal.SIGSTOP)
        while not stopped(function.pid):
            os.sched_yield()
        assert judged(directory) == [(f"q{n}", "ok", "scored") for n in range(number + 1)], (
            "seen while the process stands still"
        )
        if number < 9:
            function.send_signal(signal.SIGCONT)


def judged(directory: Path) -> list[tuple[Any, ...]]:
    """Question, status and the score's status of each stored record."""
    return stored(
        directory,
        "SELECT json_extract(p.input, '$.question'), r.status, s.status FROM record r JOIN payload p ON p.id = r.id "
        "LEFT JOIN score s ON s.trace_id = r.trace_id AND s.span_id = r.span_id ORDER BY r.id",
    )


KERNEL = """
    import json, linecache, sys
    print("ready", flush=True)
    for number, line in enumerate(sys.stdin):
        cell, name = json.loads(line), f"<cell {number}>"
        linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        exec(compile(cell, name, "exec"), globals())
        print("done", flush=True)
"""


class Kernel:
    """A process that runs cells in its ``__main__``, as a notebook's does."""

    def __init__(self, folder: Path) -> None:
        self.process = programs.start(KERNEL, folder)
        assert programs.ready(self.process) == "ready"

    def run(self, cell: str) -> list[str]:
        """What the cell prints."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(cell) + "\n")
        self.process.stdin.flush()
        lines: list[str] = []
        while (line := programs.ready(self.process)) != "done":
            lines.append(line)
        return lines

    def restart(self, folder: Path) -> Kernel:
        programs.kill(self.process)
        return Kernel(folder)


HANGS = """
import threading

def polite(output):
    threading.Event().wait()

ask = tk.App(lambda question: "x", name="draft", version="2", metrics=[polite])
ask("never judged")
"""
SECOND = "[second] = tk.records(filter='app.version = \"2\"')\n"


def test_a_notebook_whose_cell_is_run_again_and_whose_kernel_is_restarted(tmp_path: Path) -> None:
    cell = block("recipes.md", "def polite")
    kernel = Kernel(tmp_path)
    assert kernel.run(cell) == ["True"]
    assert kernel.run(cell) == ["True"]
    assert kernel.run("print(len(tk.leaderboard()), len(tk.records()))") == ["1 2"]
    versions = "print(len({score.metric_version for r in tk.records() for score in r.scores.values()}))"
    assert kernel.run(versions) == ["1"], "the same code is the same metric"
    kernel.run(HANGS)
    kernel = kernel.restart(tmp_path)
    assert kernel.run(cell) == ["True"]
    assert kernel.run(SECOND + "print(second.scores['polite'].status, '-', second.scores['polite'].reason)") == [
        "failed - its process ended before it ran"
    ]
    kernel.run("_ = tk.rescore(metrics=[polite])")
    assert kernel.run(SECOND + "print(second.scores['polite'].value)") == ["False"]
    assert kernel.run("print(len(tk.records()))") == ["4"]
    assert kernel.run(versions) == ["1"], "the judgement that never came was replaced"
    programs.kill(kernel.process)


CONTAINER = """
    import os, sys, socket, tracekeeper as tk

    @tk.app(name="container", version="1", metrics=[tk.metrics.Length(max=100)])
    def call(name, n):
        return n

    @tk.app(name="open", version="1")
    def held(name):
        print("ready", os.getpid(), socket.gethostname(), flush=True)
        sys.stdin.readline()

    name = sys.argv[1]
    for n in range(50):
        call(name, n)
    held(name)
    for n in range(50, 100):
        call(name, n)
    tk.flush(timeout=30)
    print("flushed", flush=True)
    sys.stdin.readline()
    tk.shutdown(timeout=30)
"""


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "--uts", "true"], capture_output=True, check=False
    )
    return tried.returncode == 0


@contextmanager
def container(folder: Path, program: Path, name: str, host: str) -> Iterator[subprocess.Popen[str]]:
    """A process with process and host names of its own, where this user may make such a thing."""
    inside = [sys.executable, "-u", str(program), name]
    if can_unshare():
        apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts"]
        inside = [*apart, "sh", "-c", f'hostname {host}; exec "$@"', "sh", *inside]
    process = subprocess.Popen(
        inside, cwd=folder, env=environment(TRACEKEEPER_DIRECTORY=str(folder / ".tracekeeper")), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=WAIT)


def kill_inside(process: subprocess.Popen[str]) -> None:
    """Kill the container's process 1, which is not the process that made the container."""
    inside = process.pid
    if can_unshare():
        inside = int(Path(f"/proc/{inside}/task/{inside}/children").read_text())
    os.kill(inside, signal.SIGKILL)
    process.wait(WAIT)


@pytest.mark.parametrize("hosts", [("one", "two"), ("same", "same")], ids=["own host names", "one host name"])
def test_two_containers_on_one_volume(tmp_path: Path, hosts: tuple[str, str]) -> None:
    """Both have process 1, and see no process of the other. One is killed, the other stores what it left."""
    program = programs.write(CONTAINER, tmp_path)
    with (
        container(tmp_path, program, "a", hosts[0]) as first,
        container(tmp_path, program, "b", hosts[1]) as second,
    ):
        said = [programs.ready(first), programs.ready(second)]
        if can_unshare():
            assert said == [f"ready 1 {hosts[0]}", f"ready 1 {hosts[1]}"]
        assert second.stdin is not None
        # Both live: neither takes the other's journal for a dead one's, although its number is another process's here.
        second.stdin.write("\n")
        second.stdin.flush()
        assert programs.ready(second) == "flushed"
        assert open_calls(tmp_path) <= {("a", "running")}
        kill_inside(first)
        second.stdin.write("\n")
        second.stdin.flush()
        _, errors = second.communicate(timeout=WAIT)
        assert (second.returncode, errors) == (0, "")
    with tk_in(tmp_path):
        records = tk.records(filter='app = "container"', limit=1000, timeout=60)
        calls = sorted((record.input["name"], record.input["n"]) for record in records)
        assert calls == [*(("a", n) for n in range(50)), *(("b", n) for n in range(100))]
        held = {record.input["name"]: str(record.status) for record in tk.records(filter='app = "open"')}
        assert held == {"a": "interrupted", "b": "ok"}


def open_calls(folder: Path) -> set[tuple[Any, ...]]:
    return set(
        stored(
            folder / ".tracekeeper",
            "SELECT json_extract(p.input, '$.name'), r.status FROM record r JOIN payload p ON p.id = r.id "
            "JOIN app a ON a.id = r.app_id WHERE a.name = 'open' AND r.status != 'ok'",
        )
    )
