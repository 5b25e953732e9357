"""G3 for third parties' spans: each stream of an instrumented client is one span, with its text and how it ended.

The real instrumentations of OpenInference and OpenLLMetry, with and without a provider of the OpenTelemetry SDK,
against a server that speaks the wire format.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import programs
from tests.support.spans import ROOT, stored

CASES = f"""
import asyncio, gc, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.support.wire import serving
import openai
import tracekeeper as tk
from tracekeeper.tracing import bridge

bridge.join()
OpenAIInstrumentor().instrument()
ASKED = [{{"role": "user", "content": "Weather?"}}]


def chunks(client, model):
    return client.chat.completions.create(
        model=model, messages=ASKED, stream=True, stream_options={{"include_usage": True}}
    )


def words(stream, count):
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            count -= 1
            if not count:
                break


with serving() as server:
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0, timeout=30)
    later = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0, timeout=30)

    with tk.span("whole"):
        client.chat.completions.create(model="full", messages=ASKED)
    with tk.span("read to its end"):
        for chunk in chunks(client, "full"): pass
    with tk.span("left"):
        stream = chunks(client, "full")
        words(stream, 3)
        del stream
        gc.collect()
    with tk.span("left and closed"):
        with chunks(client, "full") as stream:
            words(stream, 3)
    with tk.span("never read"):
        chunks(client, "full")
        gc.collect()
    with tk.span("its reader raises"):
        try:
            for chunk in chunks(client, "full"): raise ValueError("of the program's own")
        except ValueError:
            pass
        del chunk
        gc.collect()
    with tk.span("cut"):
        for chunk in chunks(client, "cut"): pass
    with tk.span("reset"):
        try:
            for chunk in chunks(client, "reset"):
                if chunk.choices and chunk.choices[0].delta.content == "in ":  # the last word before it
                    server.pace.release()
        except openai.APIError:
            pass
    with tk.span("refused"):
        try:
            chunks(client, "refused")
        except openai.APIError:
            pass

    async def stalls():
        async for chunk in await chunks(later, "stall"): pass

    async def main():
        with tk.span("out of time"):
            try:
                await asyncio.wait_for(stalls(), 1.0)
            except asyncio.TimeoutError:
                pass
        with tk.span("async"):
            async for chunk in await chunks(later, "full"): pass
        await later.close()

    asyncio.run(main())
    gc.collect()
assert tk.flush(timeout=30).complete
"""
SDK = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
"""
FAMILIES = {
    "openinference": "from openinference.instrumentation.openai import OpenAIInstrumentor\n",
    "openllmetry": "from opentelemetry.instrumentation.openai import OpenAIInstrumentor\n",
}
TEXT = "The weather in Ireland is mild and wet all year."
EXPECTED = {
    "whole": ("ok", True),
    "read to its end": ("ok", True),
    "left": ("abandoned", False),
    "left and closed": ("abandoned", False),
    "never read": ("abandoned", False),
    "its reader raises": ("abandoned", False),
    "cut": ("truncated", False),
    "reset": ("error", False),
    "refused": ("error", False),
    "out of time": ("cancelled", False),
    "async": ("ok", True),
}
UNTOLD = {"cut", "reset", "out of time"}
"""What OpenLLMetry's span has no trace of: it says ``ok``, as of a stream that was left."""
ROWS = """
SELECT above.name, span.status, span.input_tokens, payload.output FROM span JOIN span above
ON above.span_id = span.parent_id AND above.trace_id = span.trace_id AND above.record_span_id = span.record_span_id
LEFT JOIN payload ON payload.id = span.id ORDER BY span.id
"""


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["sdk", "none"])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_stream_is_one_span_with_its_text_and_how_it_ended(tmp_path: Path, family: str, provider: str) -> None:
    code = (SDK if provider == "sdk" else "") + FAMILIES[family] + CASES
    done = programs.run(code, tmp_path, timeout=100)
    assert done.code == 0, done.err
    rows = stored(tmp_path / ".tracekeeper", ROWS)
    assert [name for name, *_ in rows] == list(EXPECTED), "one span each"
    for name, status, tokens, output in rows:
        expected, whole = EXPECTED[str(name)]
        if family == "openllmetry" and name in UNTOLD:
            expected = "abandoned"
        assert status == expected, name
        if whole:
            assert (output, tokens) == (f'"{TEXT}"', 7)
        else:
            assert tokens is None, "what was not reported is not a zero"
            assert output is None or TEXT.startswith(str(output).strip('" ')), name
    kept = {name: output for name, _, _, output in rows}
    assert all(str(kept[name]).startswith('"The weather in') for name in ("left", "left and closed", "cut", "reset"))
