"""What DSPy 3.4 does wrong with calls of models, done right. The ids are those of the failure catalogue.

Rows that are shown elsewhere: s4 (web servers) in ``tests/guarantees/test_web.py``:
``test_fifty_users_at_once_are_never_mixed``; s8 (16 threads with one prompt) in ``tests/unit/lm/test_cache.py``:
``test_sixteen_at_once_with_one_question_make_one_call``; pools, loops and contexts in ``test_dspy.py``.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support.wire import WireServer, serving

import tracekeeper as tk

WORDS = ("The ", "weather ", "in ", "Ireland ", "is ", "mild.")


@pytest.fixture
def server() -> Iterator[WireServer]:
    with serving() as made:
        yield made


@pytest.fixture
def model(server: WireServer) -> tk.LM:
    """Each answer takes 7 tokens in and 10 out."""
    return tk.LM("openai/full", api_base=f"{server.url}/v1", api_key="k")


def echo(prompt: str) -> str:
    return prompt.upper()


def words(prompt: str) -> Iterator[str]:
    yield from WORDS


async def awords(prompt: str) -> Any:
    for word in WORDS:
        yield word


def statuses() -> Counter[str]:
    tk.flush(timeout=20)
    return Counter(record.status for record in tk.records(limit=2_000))


# -- s1: which model answers -----------------------------------------------------------------------------------


def ask(prompt: str) -> str:
    """With the model that is set where the call was made."""
    lm = tk.settings().lm
    assert lm is not None, "no model"
    return str(lm(prompt).text)


def test_s1b_without_a_model_at_all_the_loss_of_a_context_is_loud(keeper: object) -> None:
    with tk.context(lm=tk.LM(echo)), ThreadPoolExecutor(4) as pool, pytest.raises(AssertionError, match="no model"):
        pool.submit(ask, "a").result()


def test_s1c_64_of_64_calls_in_a_plain_pool_reach_the_contexts_model_and_not_the_global_one(keeper: object) -> None:
    tk.configure(lm=tk.LM(lambda prompt: "the global one"))
    tk.instrument("threads")
    try:
        with tk.context(lm=tk.LM(echo)), ThreadPoolExecutor(8) as pool:
            assert [*pool.map(ask, ["a"] * 64)] == ["A"] * 64
    finally:
        tk.uninstrument("threads")


def test_s1f_a_program_with_a_pool_of_its_own_in_a_map_reaches_each_items_model(keeper: object) -> None:
    tk.configure(lm=tk.LM(lambda prompt: "the global one"))

    def program(number: int) -> set[str]:
        with tk.context(lm=tk.LM(lambda prompt: f"{prompt} {number}")), tk.ThreadPoolExecutor(4) as pool:
            return {*pool.map(ask, ["model"] * 4)}

    outcomes = tk.parallel_map(program, range(16), concurrency=8, timeout=30)
    assert [outcome.value for outcome in outcomes] == [{f"model {number}"} for number in range(16)]


# -- s7: usage -------------------------------------------------------------------------------------------------


def by_map(model: tk.LM, calls: int) -> None:
    assert all(outcome.ok for outcome in tk.parallel_map(model, ["Hello"] * calls, concurrency=16, timeout=60))


def by_async_map(model: tk.LM, calls: int) -> None:
    outcomes = asyncio.run(tk.aparallel_map(model.acall, ["Hello"] * calls, concurrency=16, timeout=60))
    assert all(outcome.ok for outcome in outcomes)


def by_pairs(model: tk.LM, calls: int) -> None:
    outcomes = tk.Parallel(concurrency=16, timeout=60)([(model, ("Hello",))] * calls)
    assert all(outcome.ok for outcome in outcomes)


def by_pool(model: tk.LM, calls: int) -> None:
    with tk.ThreadPoolExecutor(16) as pool:
        assert len([*pool.map(model, ["Hello"] * calls)]) == calls


def by_asyncify(model: tk.LM, calls: int) -> None:
    async def gathered() -> None:
        await asyncio.gather(*(tk.asyncify(model)("Hello") for _ in range(calls)))

    asyncio.run(gathered())


@pytest.mark.parametrize("way", [by_map, by_async_map, by_pairs, by_pool, by_asyncify])
def test_s7_the_usage_of_200_calls_at_once_is_exact(way: Any, model: tk.LM) -> None:
    with tk.track_usage() as usage:
        way(model, 200)
    assert (usage.calls, usage.input_tokens, usage.output_tokens, usage.unreported) == (200, 1_400, 2_000, 0)


# -- s7/10: history --------------------------------------------------------------------------------------------


def test_s10_the_history_of_64_threads_has_each_call_once_with_its_own_text(keeper: object) -> None:
    model = tk.LM(echo)

    def work(thread: int) -> None:
        for number in range(10):
            model(f"call {thread}-{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    tk.flush(timeout=20)
    kept = {record.input[0]["content"]: record.output for record in tk.records(limit=2_000)}
    assert kept == {f"call {a}-{b}": f"CALL {a}-{b}" for a in range(64) for b in range(10)}
    assert statuses() == {"ok": 640}


def test_s8_of_1000_calls_at_once_each_begins_and_ends_once_also_those_that_fail(keeper: object) -> None:
    def every_tenth_fails(prompt: str) -> str:
        if int(prompt) % 10 == 0:
            raise ValueError(prompt)
        return prompt

    outcomes = tk.parallel_map(tk.LM(every_tenth_fails, retries=0), map(str, range(1_000)), concurrency=16, timeout=60)
    assert Counter(outcome.status for outcome in outcomes) == {"ok": 900, "error": 100}
    assert statuses() == {"ok": 900, "error": 100}


# -- s8, s9: streams that are left -----------------------------------------------------------------------------


def test_s8_a_stream_that_is_left_is_in_the_history_with_its_text(keeper: object) -> None:
    for _ in tk.LM(words).stream("break"):
        break
    gc.collect()
    tk.flush(timeout=20)
    [record] = tk.records()
    assert (record.status, record.output) == ("abandoned", "The ")


@pytest.mark.parametrize("function", [words, awords])
@pytest.mark.parametrize("closing", [False, True])
def test_s8_s9_leaving_an_async_stream_does_not_cancel_the_task_that_read_it(
    function: Any, closing: bool, keeper: object
) -> None:
    steps = []

    async def handler() -> str:
        stream = tk.LM(function).astream("break")
        async for chunk in stream:
            steps.append(chunk.text)
            break
        if closing:
            await stream.aclose()
        del stream
        gc.collect()
        await asyncio.sleep(0)
        steps.append("next step")
        async with asyncio.timeout(10):
            return str((await tk.LM(echo).acall("and on")).text)

    async def served() -> str:
        task = asyncio.create_task(handler())
        answer = await task
        assert not task.cancelled()
        assert not task.cancelling()
        return answer

    assert asyncio.run(served()) == "AND ON"
    assert steps == ["The ", "next step"]
    tk.flush(timeout=20)
    assert {record.input[0]["content"]: (record.status, record.output) for record in tk.records()} == {
        "break": ("abandoned", "The "),
        "and on": ("ok", "AND ON"),
    }
