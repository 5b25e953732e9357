"""An app under chaos: threads and tasks that call, wait and flush, until told to leave or killed.

What it does is written, line by line and synced, into a log of its own that Tracekeeper knows nothing of: the truth
that the checker holds Tracekeeper to. A line is written before and after each call, wait and flush.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import chaos_metrics as metrics
from chaos_elsewhere import elsewhere

import tracekeeper as tk

PAUSE = (0.05, 0.2)
"""Seconds between two calls of a thread or task."""
WAIT, FLUSH = 1.0, 1.0
"""Seconds that waits and flushes are given."""

_name = sys.argv[1]
_log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_draw = random.Random(int(sys.argv[3]))
_leave = threading.Event()


def tell(what: str, **facts: Any) -> None:
    """A line of the log, on disk when this returns."""
    os.write(_log, (json.dumps({"what": what, **facts}) + "\n").encode())
    os.fsync(_log)


def tell_receipt(what: str, receipt: tk.Receipt) -> None:
    """A line with the figures of a receipt."""
    figures = {"journaled": receipt.journaled, "stored": receipt.stored, "pending": receipt.pending}
    tell(what, **figures, dropped=receipt.dropped)


@tk.trace(kind="retriever")
def retrieve(question: str) -> list[str]:
    return [f"about {question}"]


def body(question: str) -> str:
    span = tk.current_span()
    assert span is not None
    context = span.get_span_context()
    trace, key = f"{context.trace_id:032x}", f"{context.span_id:016x}"
    tell("began", question=question, app=app_of(question), trace=trace, span=key)
    retrieve(question)
    if raises(question):
        raise LookupError(question)
    return metrics.answer(question)


def app_of(question: str) -> str:
    return question.split("/")[1]


def raises(question: str) -> bool:
    return question.endswith("!")


HERE = tk.metric(lambda question, output: metrics.judge("here", question, output), name="here")


@tk.guard.input(metrics.doubtful, on_failure="allow", timeout=metrics.GUARD_TIMEOUT)
@tk.app(name="steady", version="1", metrics=[*metrics.STEADY, HERE])
def steady(question: str) -> str:
    return body(question)


@tk.app(name="hanging", version="1", metrics=metrics.HANGING)
async def hanging(question: str) -> str:
    return body(question)


@tk.app(name="deferred", version="1", metrics=[*metrics.DEFERRED, tk.metric(elsewhere, mode="deferred", sample=0.1)])
async def deferred(question: str) -> str:
    return body(question)


@tk.app(name="apart", version="1", metrics=metrics.APART)
def apart(question: str) -> str:
    return body(question)


def bounded(what: str, allowed: float, call: Callable[[], Any]) -> Any:
    """Run what has a deadline, and tell how long it took by a clock that nobody steps."""
    tell("waits", of=what, at=time.monotonic())
    begun = time.monotonic()
    result = call()
    tell("waited", of=what, allowed=allowed, begun=begun, took=time.monotonic() - begun)
    return result


def call_in_thread(app: Any, prefix: str, draw: random.Random) -> None:
    number = 0
    while not _leave.is_set():
        number += 1
        question = f"{prefix}/{app.__name__}/{number}{'!' if draw.random() < 0.03 else ''}"
        tell("asks", question=question)
        begun = time.monotonic()
        with contextlib.suppress(LookupError), tk.recording() as recording:
            app(question)
        if (took := time.monotonic() - begun) > metrics.GUARD_TIMEOUT:
            tell("waited", of="a guarded call", allowed=metrics.GUARD_TIMEOUT, begun=begun, took=took)
        tell("ended", question=question)
        if draw.random() < 0.05:
            bounded("wait_for_scores", WAIT, lambda: recording.wait_for_scores(timeout=WAIT))
        if draw.random() < 0.02:
            receipt = bounded("flush", FLUSH, lambda: tk.flush(timeout=FLUSH))
            tell_receipt("receipt", receipt)
        _leave.wait(draw.uniform(*PAUSE))


async def call_in_task(app: Any, prefix: str, draw: random.Random) -> None:
    number = 0
    while not _leave.is_set():
        number += 1
        question = f"{prefix}/{app.__name__}/{number}{'!' if draw.random() < 0.03 else ''}"
        tell("asks", question=question)
        with contextlib.suppress(LookupError):
            await app(question)
        tell("ended", question=question)
        await asyncio.sleep(draw.uniform(*PAUSE))


def tasks(prefix: str, draws: list[random.Random]) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number, draw in enumerate(draws):
                app = (deferred, hanging)[number % 2]
                group.create_task(call_in_task(app, f"{prefix}.task{number}", draw))

    asyncio.run(main())


def make_rule() -> None:
    """Each app says the same rule when it starts, as programs do; it may be that the database is locked."""
    for _ in range(20):
        try:
            tk.rule(
                "chaos", filter=f'app = "{metrics.RULED_APP}"', metrics=[metrics.ruled], sample=0.5, since="beginning"
            )
        except tk.StoreError as error:
            tell("no rule", why=str(error))
            if _leave.wait(1.0):
                return
        else:
            return


def crash(error: threading.ExceptHookArgs) -> None:
    """Tracing raised into the app, or the app itself is wrong: either is to be seen."""
    traceback.print_exception(error.exc_type, error.exc_value, error.exc_traceback)
    os._exit(70)


def main() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: _leave.set())
    threading.excepthook = crash
    tell("started", pid=os.getpid())
    threads = [
        threading.Thread(target=call_in_thread, args=(app, f"{_name}.thread{number}", random.Random(_draw.random())))
        for number, app in enumerate((steady, apart))
    ]
    threads.append(threading.Thread(target=tasks, args=(_name, [random.Random(_draw.random()) for _ in range(2)])))
    threads.append(threading.Thread(target=make_rule))
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # in short waits: a signal that another thread received does not end one
            thread.join(0.5)
    receipt = bounded("shutdown", tk.settings().exit_timeout, tk.shutdown)
    tell_receipt("left", receipt)


if __name__ == "__main__":
    main()
