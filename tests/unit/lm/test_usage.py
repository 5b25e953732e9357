"""Usage and cost: each call counted once, wherever it runs; a price that nobody told is unknown."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import openai
import pytest
from tests.support.spans import stored
from tests.support.streaming import MESSAGES
from tests.support.wire import WireServer
from tests.unit.lm.conftest import Making

import tracekeeper as tk
from tracekeeper.lm.prices import price_of, table


def test_usage_is_exact_over_threads_tasks_and_streams(lm: Making, server: WireServer) -> None:
    model = lm("openai/full", price={"input": 1.0, "output": 10.0})

    async def tasks() -> None:
        await asyncio.gather(*(model.acall("Hello") for _ in range(20)))
        assert [chunk async for chunk in model.astream("Hello")]

    with tk.track_usage() as outer:
        with tk.track_usage() as inner:
            asyncio.run(tasks())
            assert list(model.stream("Hello"))
        tk.instrument("threads")
        try:
            threads = [threading.Thread(target=model, args=("Hello",)) for _ in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
        finally:
            tk.uninstrument("threads")
    model("Outside")
    assert (inner.calls, inner.input_tokens, inner.output_tokens) == (22, 22 * 7, 22 * 10)
    assert (outer.calls, outer.input_tokens, outer.output_tokens) == (32, 32 * 7, 32 * 10)
    assert outer.cost == pytest.approx(32 * (7 * 1 + 10 * 10) / 1e6)
    assert (outer.unpriced, outer.unreported, outer.failed) == (0, 0, 0)
    assert outer.by_model().keys() == {"openai/full"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_call_inside_a_call_is_counted_once(lm: Making, server: WireServer, keeper: object) -> None:
    model = lm("openai/full")
    tk.instrument("openai")
    try:
        with tk.track_usage() as usage:
            tk.LM(lambda prompt: model(prompt))("Hello")
            model("Hello")
            assert list(model.stream("Hello"))
            with openai.OpenAI(api_key="k", base_url=f"{server.url}/v1") as client:
                client.chat.completions.create(model="full", messages=MESSAGES)  # type: ignore[arg-type]
                options: Any = {"stream_options": {"include_usage": True}, "stream": True}
                assert list(client.chat.completions.create(model="full", messages=MESSAGES, **options))
    finally:
        tk.uninstrument()
    assert (usage.calls, usage.input_tokens, usage.output_tokens) == (5, 35, 50)


def test_usage_is_counted_when_tracing_is_off(lm: Making, server: WireServer) -> None:
    with tk.context(enabled=False), tk.track_usage() as usage:
        lm("openai/full")("Hello")
        assert list(lm("openai/full").stream("Hello"))
    assert (usage.calls, usage.input_tokens) == (2, 14)


@pytest.mark.slow
def test_what_was_not_reported_is_said_and_not_a_zero(lm: Making, server: WireServer) -> None:
    model = lm("openai/full")
    with tk.track_usage() as usage:
        for _ in model.stream("left"):
            break
        gc.collect()
        server.script.append({"status": 400})
        with pytest.raises(tk.LMError):
            model("refused")
        tk.LM(str.upper)("a")
    assert (usage.calls, usage.failed, usage.unreported, usage.unpriced, usage.cost) == (2, 1, 3, 3, None)
    assert repr(usage) == "<2 calls, 0 + 0 tokens, cost unknown>"


def test_a_hit_of_the_cache_costs_nothing(lm: Making, server: WireServer, keeper: object) -> None:
    model = lm("openai/full", cache=True, price=tk.Price(input=1, output=1))
    with tk.track_usage() as usage:
        for _ in range(3):
            model("Hello")
    assert (usage.calls, usage.cached, usage.input_tokens, usage.unpriced) == (3, 2, 7, 0)


def test_a_span_has_the_cost_of_its_call(lm: Making, server: WireServer, keeper: Any) -> None:
    lm("openai/full", price={"input": 1.0, "output": 10.0})("Hello")
    list(lm("openai/full", price={"input": 1.0, "output": 10.0}).stream("Hello"))
    lm("openai/full")("Hello")
    tk.flush(timeout=20)
    rows = stored(keeper.directory, "SELECT input_tokens, cost FROM span ORDER BY id")
    assert rows == [(7, pytest.approx(107e-6)), (7, pytest.approx(107e-6)), (7, None)]


def test_prices_are_found_by_name_date_and_what_answered_and_may_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracekeeper.lm.prices._own", {})
    known = price_of("anthropic/claude-sonnet-4-5")
    assert known is not None
    assert price_of("anthropic/claude-sonnet-4-5-20250929") == known
    assert price_of("azure/my-deployment", "gpt-4.1") is None, "Azure's prices are its own"
    assert price_of("openai/my-alias", "gpt-4.1-2025-04-14") == price_of("openai/gpt-4.1")
    assert price_of("ollama/llama3.3") is None
    tk.set_price("ollama/llama3.3", input=0.0, output=0.0)
    assert price_of("ollama/llama3.3") == tk.Price(input=0.0, output=0.0)
    assert table().date
    assert len(table().models) > 30
    for price in table().models.values():
        assert 0 < price.input <= price.output


def test_a_cost_is_unknown_where_a_part_of_it_is() -> None:
    price = tk.Price(input=2.0, output=8.0, cache_read=0.5, up_to=1000)
    assert price.of(tk.Usage(input_tokens=100, output_tokens=10)) == pytest.approx(280e-6)
    assert price.of(tk.Usage(input_tokens=100, cache_read_tokens=60, output_tokens=10)) == pytest.approx(190e-6)
    for unknown in (
        tk.Usage(input_tokens=100),
        tk.Usage(output_tokens=100),
        tk.Usage(input_tokens=100, output_tokens=10, cache_write_tokens=1),
        tk.Usage(input_tokens=1001, output_tokens=10),
        tk.Usage(input_tokens=100, output_tokens=10, estimated=True),
    ):
        assert price.of(unknown) is None


@pytest.mark.parametrize("price", [5, {"input": 1}, {"input": 1, "output": -1}, {"input": 1, "output": 1, "ouput": 1}])
def test_a_price_that_is_none_is_refused(price: Any) -> None:
    with pytest.raises(tk.ConfigurationError, match="price"):
        tk.LM(str.upper, price=price)
