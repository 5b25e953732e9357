"""What tracing adds to a model client's call and to each chunk of its stream; runs in a peer's own environment.

CPU time of the calling thread, not wall time: the server runs beside it on the same cores, and whatever exports or
stores does so in threads of its own. Off and on take turns where a tracer can be
switched off again, else all rounds without it come first.
"""

import json
import os
import statistics
import sys
import time

SINK, WIRE = os.environ["SINK"], os.environ["WIRE"]
MESSAGES = [{"role": "user", "content": "What is the weather like?"}]
ROUNDS, CALLS, WORDS = 5, 20, 1000


def tracekeeper_():
    import tracekeeper as tk

    return (lambda: tk.instrument(LIBRARY)), (lambda: tk.uninstrument(LIBRARY))


def exporter():
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{SINK}/v1/traces")))
    return provider


def openinference():
    from openinference.instrumentation.openai import OpenAIInstrumentor

    provider = exporter()
    return (lambda: OpenAIInstrumentor().instrument(tracer_provider=provider)), OpenAIInstrumentor().uninstrument


def openllmetry():
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    provider = exporter()
    return (lambda: OpenAIInstrumentor().instrument(tracer_provider=provider)), OpenAIInstrumentor().uninstrument


def langfuse():
    os.environ.update(LANGFUSE_PUBLIC_KEY="pk-lf-bench", LANGFUSE_SECRET_KEY="sk-lf-bench")
    os.environ.update(LANGFUSE_HOST=SINK, LANGFUSE_BASE_URL=SINK)

    def on():
        import langfuse.openai  # noqa: F401  it replaces the library's functions when it is imported

    return on, None


def nothing():
    return (lambda: None), (lambda: None)


def openai_client():
    import openai

    client = openai.OpenAI(api_key="k", base_url=f"{WIRE}/v1", max_retries=0)
    chat = client.chat.completions
    return (
        lambda: chat.create(model="full", messages=MESSAGES),
        lambda: chat.create(model="long", messages=MESSAGES, stream=True),
    )


def anthropic_client():
    import anthropic

    client = anthropic.Anthropic(api_key="k", base_url=WIRE, max_retries=0)
    more = {"max_tokens": 9, "messages": MESSAGES}
    return (
        lambda: client.messages.create(model="full", **more),
        lambda: client.messages.create(model="long", stream=True, **more),
    )


def litellm_client():
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    more = {"messages": MESSAGES, "api_base": f"{WIRE}/v1", "api_key": "k"}
    return (
        lambda: litellm.completion(model="openai/full", **more),
        lambda: litellm.completion(model="openai/long", stream=True, **more),
    )


def cpu_of_calls(call):
    begun = time.thread_time()
    for _ in range(CALLS):
        call()
    return (time.thread_time() - begun) / CALLS * 1e6


def cpu_of_chunks(stream):
    begun = time.thread_time()
    for _ in stream():
        pass
    return (time.thread_time() - begun) / WORDS * 1e6


LIBRARY, TRACER = sys.argv[1:3]
call, stream = {"openai": openai_client, "anthropic": anthropic_client, "litellm": litellm_client}[LIBRARY]()
on, off = {
    "tracekeeper": tracekeeper_,
    "openinference": openinference,
    "openllmetry": openllmetry,
    "langfuse": langfuse,
    "none": nothing,
}[TRACER]()
figures = {"bare call": [], "call": [], "bare chunk": [], "chunk": []}


def measure(prefix):
    figures[f"{prefix}call"].append(cpu_of_calls(call))
    figures[f"{prefix}chunk"].append(cpu_of_chunks(stream))


measure("bare ")
on()
measure("")
for values in figures.values():  # those were to warm up
    values.clear()
if off is None:  # the figures without it are another run's
    for _ in range(ROUNDS):
        measure("")
else:
    for _ in range(ROUNDS):
        off()
        measure("bare ")
        on()
        measure("")
print(json.dumps({name: statistics.median(values) for name, values in figures.items() if values}), flush=True)
os._exit(0)  # what is left to export is nobody's figure
