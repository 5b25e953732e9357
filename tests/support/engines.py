"""An engine over plain processes and pipes: executors are tested with it where no cluster is, and it shows its size."""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from tracekeeper.evaluation.executors.elsewhere.engine import Gone
from tracekeeper.evaluation.executors.elsewhere.messages import Message, Order, Setup
from tracekeeper.evaluation.executors.elsewhere.worker import Workplace

ROOT = Path(__file__).resolve().parents[2]


class Pipes:
    """Workers that are processes of this machine."""

    name = "pipe"
    dumps: Callable[[Any], bytes] = staticmethod(pickle.dumps)

    def __init__(self) -> None:
        self.answers: queue.SimpleQueue[tuple[PipeWorker, list[Message] | Gone]] = queue.SimpleQueue()
        self.started: list[PipeWorker] = []

    def room(self) -> int:
        return 2

    def start(self, setup: Setup) -> PipeWorker:
        worker = PipeWorker(self.answers, setup)
        self.started.append(worker)
        return worker

    def wait(self, workers: Sequence[Any], timeout: float) -> list[tuple[Any, list[Message] | Gone]]:
        try:
            worker, said = self.answers.get(timeout=timeout)
        except queue.Empty:
            return []
        return [(worker, said)] if worker in workers else []


class PipeWorker:
    """A process. A thread reads what its `poll` gave."""

    def __init__(self, answers: Any, setup: Setup) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.engines"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._answers = answers
        self._lock = threading.Lock()
        self._left: queue.SimpleQueue[list[Message]] = queue.SimpleQueue()
        self._send(("setup", setup))
        threading.Thread(target=self._read, daemon=True).start()

    def begin(self, orders: list[Order]) -> None:
        self._send(("begin", orders))

    def cancel(self, number: int) -> None:
        self._send(("cancel", number))

    def leave(self, seconds: float) -> list[Message]:
        self._send(("leave", seconds))
        return self._left.get(timeout=seconds + 1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        with self._lock:
            assert self.process.stdin is not None
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                return  # what was not written yet

    def _send(self, what: Any) -> None:
        with self._lock:
            assert self.process.stdin is not None
            try:
                pickle.dump(what, self.process.stdin)
                self.process.stdin.flush()
            except (BrokenPipeError, ValueError):
                return  # it is gone, which its reader says

    def _read(self) -> None:
        out = self.process.stdout
        assert out is not None
        with out:
            while True:
                try:
                    kind, said = pickle.load(out)
                except (EOFError, pickle.UnpicklingError, OSError):
                    break
                if kind == "left":
                    self._left.put(said)
                else:
                    self._answers.put((self, said))
        code = self.process.wait()
        self._answers.put((self, Gone(f"its process ended with {code}")))


def main(given: BinaryIO, out: BinaryIO) -> None:
    """What runs in the process."""
    lock = threading.Lock()

    def say(what: Any) -> None:
        data = pickle.dumps(what)
        with lock:
            out.write(data)
            out.flush()

    _, setup = pickle.load(given)
    place = Workplace(setup)

    def poll() -> None:
        while True:
            say(("poll", place.poll()))

    threading.Thread(target=poll, daemon=True).start()
    while True:
        try:
            kind, what = pickle.load(given)
        except EOFError:
            os._exit(0)
        if kind == "leave":
            say(("left", place.leave(what)))
        else:
            getattr(place, kind)(what)


if __name__ == "__main__":
    main(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
