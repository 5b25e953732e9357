"""A guard decides in bounded time, whatever its metrics do, and nothing turns it off."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs

import tracekeeper as tk
from tracekeeper.scoring.runners import inline_runner

DEADLINE = 0.5
SLACK = 3.0
CALLS = 1_000
THREADS = 50


@pytest.fixture
def release(keeper: object) -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def hanging(sort: str, release: threading.Event) -> Any:
    def blocks(input: str) -> bool:
        return release.wait()

    async def awaits(input: str) -> bool:
        await asyncio.Event().wait()
        return True

    async def swallows(input: str) -> bool:
        while not release.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
        return True

    async def blocks_the_loop(input: str) -> bool:
        return release.wait()

    return {function.__name__: function for function in (blocks, awaits, swallows, blocks_the_loop)}[sort]


SORTS = ["blocks", "awaits", "swallows", "blocks_the_loop"]


@pytest.mark.parametrize("own", [True, False], ids=["the metric's deadline", "the guard's deadline"])
@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("on_failure", ["block", "allow"])
def test_a_metric_that_hangs_is_left_behind_at_the_deadline(
    sort: str, on_failure: Any, own: bool, release: threading.Event
) -> None:
    metric = tk.metric(hanging(sort, release), timeout=DEADLINE if own else 60, name="hangs")
    guard = tk.guard.input(metric, on_failure=on_failure, timeout=None if own else DEADLINE)

    def ask(question: str) -> str:
        return "mild"

    async def aask(question: str) -> str:
        return "mild"

    calls: list[Callable[[], Any]] = [lambda: guard(ask)("?"), lambda: asyncio.run(guard(aask)("?"))]
    for call in calls:
        began = time.monotonic()
        if on_failure == "allow":
            assert call() == "mild"
        else:
            with pytest.raises(tk.Blocked, match=r"'hangs' is timed_out: .* and on_failure is 'block'") as caught:
                call()
            assert caught.value.score is not None
            assert caught.value.score.status == "timed_out"
        assert time.monotonic() - began < DEADLINE * SLACK + 1.5  # a blocked loop is known as such after a second


def test_several_metrics_and_all_documents_share_one_deadline(release: threading.Event) -> None:
    def hangs(document: str) -> bool:
        return document == "good" or release.wait()

    def also(document: str) -> bool:
        return True

    @tk.guard.context(hangs, also, on_failure="block", timeout=DEADLINE)
    def retrieve(question: str) -> list[str]:
        return ["good", *["bad"] * 20, "good"]

    began = time.monotonic()
    assert retrieve("?") == ["good", "good"]
    assert time.monotonic() - began < DEADLINE * SLACK + 1


def test_documents_beyond_what_runs_at_once_are_judged_too(keeper: object) -> None:
    async def even(document: int) -> bool:
        await asyncio.sleep(0)
        return document % 2 == 0

    @tk.guard.context(even, on_failure="block")
    def retrieve(question: str) -> list[int]:
        return list(range(2_000))

    assert retrieve("?") == list(range(0, 2_000, 2))


def test_the_event_loop_goes_on_while_a_guard_waits(release: threading.Event) -> None:
    guard = tk.guard.input(hanging("blocks", release), on_failure="allow", timeout=DEADLINE)

    @guard
    async def ask(question: str) -> str:
        return "mild"

    async def main() -> tuple[str, float]:
        asking = asyncio.ensure_future(ask("?"))
        longest, before = 0.0, time.monotonic()
        while not asking.done():
            await asyncio.sleep(0.01)
            longest, before = max(longest, time.monotonic() - before), time.monotonic()
        return asking.result(), longest

    answer, longest = asyncio.run(main())
    assert answer == "mild"
    assert longest < DEADLINE * 0.8


def test_whoever_is_cancelled_while_a_guard_runs_is_cancelled_at_once_and_its_metrics_too(keeper: object) -> None:
    begun, cancelled = threading.Event(), threading.Event()
    called: list[str] = []

    async def waits(input: str) -> bool:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return True

    @tk.guard.input(waits, on_failure="allow", timeout=60)
    async def ask(question: str) -> None:
        called.append(question)

    async def main() -> float:
        asking = asyncio.ensure_future(ask("?"))
        await asyncio.to_thread(begun.wait, 20)
        began = time.monotonic()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return time.monotonic() - began

    assert asyncio.run(main()) < SLACK
    assert cancelled.wait(20)
    assert called == []


def test_a_timeout_around_a_guarded_call_holds(keeper: object) -> None:
    async def waits(input: str) -> bool:
        await asyncio.Event().wait()
        return True

    @tk.guard.input(waits, on_failure="allow", timeout=60)
    async def ask(question: str) -> None: ...

    async def main() -> None:
        async with asyncio.timeout(0.2):
            await ask("?")

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert time.monotonic() - began < SLACK


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_whatever_a_metric_raises_is_a_failure_of_it_alone(error: type[BaseException], keeper: object) -> None:
    def raises(input: str) -> bool:
        raise error("no")

    async def araises(input: str) -> bool:
        raise error("no")

    for metric in (raises, araises):
        with pytest.raises(tk.Blocked, match=f"the metric raised {error.__name__}: no"):
            tk.guard.input(metric, on_failure="block")(lambda question: "mild")("?")
        assert tk.guard.input(metric, on_failure="allow")(lambda question: "mild")("?") == "mild"


def test_what_the_guarded_call_raises_passes_untouched(keeper: object) -> None:
    @tk.guard.output(lambda output: True, on_failure="block")
    def ask(error: BaseException) -> None:
        raise error

    for error in (ValueError("own"), SystemExit(3), asyncio.CancelledError()):
        with pytest.raises(type(error)) as caught:
            ask(error)
        assert caught.value is error


def test_a_thousand_guarded_calls_at_once_get_each_its_own_decision(keeper: object) -> None:
    async def even(number: int) -> bool:
        await asyncio.sleep(0.01)
        return number % 2 == 0

    def small(output: int) -> int:
        return output

    @tk.app(name="numbers")
    @tk.guard.input(even, on_failure="block", on_block=lambda blocked: "odd")
    @tk.guard.output(tk.metric(small, direction="minimize"), threshold=CALLS // 2, on_failure="block", on_block="large")
    async def ask(number: int) -> Any:
        await asyncio.sleep(0)
        return number

    async def main() -> list[Any]:
        return await asyncio.gather(*(ask(number) for number in range(CALLS)))

    expected = ["odd" if number % 2 else number if number <= CALLS // 2 else "large" for number in range(CALLS)]
    assert asyncio.run(main()) == expected


def test_fifty_threads_at_once_get_each_its_own_decision(keeper: object) -> None:
    async def even(number: int) -> bool:
        return number % 2 == 0

    @tk.guard.input(even, on_failure="block", on_block="odd")
    def ask(number: int) -> Any:
        return number

    barrier, answers = threading.Barrier(THREADS), [[] for _ in range(THREADS)]  # type: ignore[var-annotated]

    def work(thread: int) -> None:
        barrier.wait(20)
        for number in range(20):
            answers[thread].append(ask(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(found == ["odd" if number % 2 else number for number in range(20)] for found in answers)


def test_threads_that_do_not_come_back_do_not_hold_up_a_guard_beyond_its_deadline(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline_runner(), "abandoned_limit", sum(inline_runner().abandoned()) + 2)
    guard = tk.guard.input(hanging("blocks", release), on_failure="block", timeout=0.2)
    ask = guard(lambda question: "mild")
    for _ in range(4):
        began = time.monotonic()
        with pytest.raises(tk.Blocked, match=r"is timed_out|could not start within"):
            ask("?")
        assert time.monotonic() - began < 0.2 * SLACK + 1


def test_calls_that_are_refused_hold_no_threads_that_others_need(release: threading.Event) -> None:
    """Else whoever sends what is refused would keep the guard from judging what others send."""

    def slow(input: str) -> bool:
        return input == "good" or release.wait()

    def fine(input: str) -> bool:
        return input == "good"

    guard = tk.guard.input(slow, fine, on_failure="allow", timeout=60)
    ask = guard(lambda question: "mild")
    before = inline_runner().abandoned()
    for _ in range(100):
        with pytest.raises(tk.Blocked, match="'fine' is False"):
            ask("bad")
    assert inline_runner().abandoned() == before
    assert ask("good") == "mild"


def test_a_stopped_and_continued_process_does_not_fail_what_was_in_time(tmp_path: Path) -> None:
    program = """
        import os, signal, subprocess, sys, threading, time
        import tracekeeper as tk
        def slow(input):
            # Stopped by the child for longer than the guard's deadline, then continued.
            child = subprocess.Popen([sys.executable, "-c", "import os, signal, time; p = os.getppid(); "
                "os.kill(p, signal.SIGSTOP); time.sleep(3); os.kill(p, signal.SIGCONT)"])
            child.wait()
            return True
        @tk.guard.input(slow, on_failure="block", timeout=2)
        def ask(question): return "mild"
        print(ask("?"))
    """
    shown = programs.run(program, tmp_path)
    assert shown.out.strip() == "mild", shown.err


def test_the_kill_switch_leaves_a_guard_on(tmp_path: Path) -> None:
    program = """
        import asyncio
        import tracekeeper as tk
        def polite(input): return "please" in input
        @tk.app(name="a")
        @tk.guard.input(polite, on_failure="allow", on_block="no")
        def ask(question): return "mild"
        @tk.guard.output(lambda output: output != "mild", on_failure="allow", on_block="no")
        @tk.trace
        async def aask(question): return "mild"
        print(ask("now"), ask("please"), asyncio.run(aask("?")))
    """
    shown = programs.run(program, tmp_path, TRACEKEEPER_DISABLED="1")
    assert shown.out.split() == ["no", "mild", "no"], shown.err
    assert not (tmp_path / ".tracekeeper").exists()


def test_interrupting_a_guarded_call_cancels_its_metrics(tmp_path: Path) -> None:
    program = """
        import asyncio, os, signal, sys, threading
        import tracekeeper as tk
        cancelled, main = threading.Event(), threading.get_ident()
        async def waits(input):
            while sys._current_frames()[main].f_code.co_name != "get": await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGINT)
            try: await asyncio.Event().wait()
            finally: cancelled.set()
        @tk.guard.input(waits, on_failure="allow", timeout=60)
        def ask(question): print("called")
        try: ask("?")
        except KeyboardInterrupt: print("interrupted", cancelled.wait(20))
    """
    shown = programs.run(program, tmp_path)
    assert shown.out.split() == ["interrupted", "True"], shown.err


def test_a_metric_in_a_process_of_its_own_guards_and_is_killed_at_the_deadline(tmp_path: Path) -> None:
    (tmp_path / "judges.py").write_text(
        "import os, re, threading\n"
        "def fine(input): return 'bad' not in input\n"
        "def crashes(input): os.abort()\n"
        "def holds_the_lock(input): return bool(re.match(r'(a+)+$', 'a' * 40 + 'b'))\n"
    )
    program = """
        import threading, time
        import judges
        import tracekeeper as tk
        if __name__ == "__main__":
            def guard(function, **options):
                metric = tk.metric(function, isolation="process")
                return tk.guard.input(metric, on_failure="block", **options)(lambda question: "mild")
            def outcome(call, question):
                try: return call(question)
                except tk.Blocked as blocked: return str(blocked)
            print(outcome(guard(judges.fine), "good"))
            print(outcome(guard(judges.fine), "bad"))
            print(outcome(guard(judges.crashes), "?"))
            began = time.monotonic()
            print(outcome(guard(judges.holds_the_lock, timeout=2), "?"))
            assert time.monotonic() - began < 2 * 3
            print(outcome(guard(judges.fine), threading.Lock()))
    """
    shown = programs.run(program, tmp_path)
    lines = shown.out.splitlines()
    assert len(lines) == 5, shown.err
    assert lines[0] == "mild"
    assert "'fine' is False" in lines[1]
    assert "SIGABRT" in lines[2]
    assert "'holds_the_lock' is timed_out" in lines[3]
    assert "cannot be sent to a process of its own" in lines[4]
