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
    from exporting import processor
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    provider.add_span_processor(processor())
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


def litellm_callback():
    """What LiteLLM itself brings: its callback that sends to Langfuse by OpenTelemetry."""
    import litellm

    os.environ.update(LANGFUSE_PUBLIC_KEY="pk-lf-bench", LANGFUSE_SECRET_KEY="sk-lf-bench")
    os.environ.update(LANGFUSE_HOST=SINK, LANGFUSE_OTEL_HOST=SINK)

    def on():
        litellm.callbacks = ["langfuse_otel"]

    return on, litellm.logging_callback_manager._reset_all_callbacks


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


def langchain_client():
    from langchain_openai import ChatOpenAI

    def model(name):
        return ChatOpenAI(model=name, base_url=f"{WIRE}/v1", api_key="k", max_retries=0)

    full, long = model("full"), model("long")
    return (lambda: full.invoke("weather?")), (lambda: long.stream("weather?"))


def llama_index_client():
    from llama_index.llms.openai import OpenAI

    full, long = (  # it refuses names of models that it does not know
        OpenAI(
            model="gpt-4.1-mini",
            additional_kwargs={"model": name},
            api_base=f"{WIRE}/v1",
            api_key="k",
            max_retries=0,
        )
        for name in ("full", "long")
    )
    return (lambda: full.complete("weather?")), (lambda: long.stream_complete("weather?"))


def dspy_client():
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import dspy

    lm = dspy.LM("openai/full", api_base=f"{WIRE}/v1", api_key="k", cache=False, num_retries=0)
    return (lambda: lm("weather?")), None


def crewai_client():
    os.environ.update(CREWAI_DISABLE_TELEMETRY="true", CREWAI_TRACING_ENABLED="false", CREWAI_TESTING="true")
    import crewai

    llm = crewai.LLM(model="gpt-4.1-mini", provider="openai", base_url=f"{WIRE}/v1", api_key="k")
    guide = crewai.Agent(role="Guide", goal="Answer", backstory="A guide.", llm=llm, verbose=False, max_iter=2)
    task = crewai.Task(name="answer", description="How is it?", expected_output="A sentence.", agent=guide)
    crew = crewai.Crew(name="guides", agents=[guide], tasks=[task], verbose=False)
    return crew.kickoff, None


def in_loop(ask, follow):
    """Calls and whole streams of an async library, on one loop of this thread."""
    import asyncio

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def drain():
        async for _ in follow():
            pass

    def stream():
        loop.run_until_complete(drain())
        return ()

    return (lambda: loop.run_until_complete(ask())), (None if follow is None else stream)


def openai_agents_client():
    import agents
    import openai
    from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel

    agents.set_trace_processors([])
    client = openai.AsyncOpenAI(api_key="k", base_url=f"{WIRE}/v1", max_retries=0)
    full, long = (
        agents.Agent(name="Guide", model=OpenAIChatCompletionsModel(model=name, openai_client=client))
        for name in ("full", "long")
    )
    return in_loop(
        lambda: agents.Runner.run(full, "weather?"),
        lambda: agents.Runner.run_streamed(long, "weather?").stream_events(),
    )


def pydantic_ai_client():
    import openai
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = openai.AsyncOpenAI(api_key="k", base_url=f"{WIRE}/v1", max_retries=0)
    full, long = (
        Agent(OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))) for name in ("full", "long")
    )

    async def follow():
        async with long.run_stream("weather?") as result:
            async for piece in result.stream_text(delta=True, debounce_by=None):
                yield piece

    return in_loop(lambda: full.run("weather?"), follow)


def mcp_client():
    import asyncio

    from mcp import Client
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("weather")

    @server.tool()
    def weather(place: str) -> str:
        return "mild"

    # Client and server on one loop in one thread: what is measured is both sides of the call.
    loop = asyncio.new_event_loop()
    entered = Client(server)
    client = loop.run_until_complete(entered.__aenter__())
    return (lambda: loop.run_until_complete(client.call_tool("weather", {"place": "Cork"}))), None


def ollama_client():
    import ollama

    client = ollama.Client(WIRE)  # asked for its method each time: a bound one is what it was before
    return (lambda: client.chat("full", MESSAGES)), (lambda: client.chat("long", MESSAGES, stream=True))


def google_genai_client():
    from google import genai

    client = genai.Client(api_key="k", http_options={"base_url": WIRE})
    return (
        lambda: client.models.generate_content(model="full", contents="weather?"),
        lambda: client.models.generate_content_stream(model="long", contents="weather?"),
    )


def bedrock_client():
    import boto3

    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "k", "region_name": "eu-west-1"}
    client = boto3.client("bedrock-runtime", endpoint_url=WIRE, **keys)
    asked = [{"role": "user", "content": [{"text": "weather?"}]}]
    return (
        lambda: client.converse(modelId="nova.full", messages=asked),
        lambda: client.converse_stream(modelId="nova.long", messages=asked)["stream"],
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


class Ready:
    """A stream of chunks that are there: no socket, no parsing."""

    def __init__(self, chunks):
        self._chunks = iter(chunks)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._chunks)


def ready():
    """A stream of the library's own chunks, bare and as `tk.instrument` hands it on; `None` where it wraps none."""
    from tracekeeper.integrations import anthropic_client, calls, litellm_client, openai_client

    operations = {
        "openai": openai_client.CHAT,
        "anthropic": anthropic_client.MESSAGES,
        "litellm": litellm_client.FUNCTIONS["completion"],
    }
    if LIBRARY not in operations:
        return None
    chunks = list(stream())
    wrapper = calls.synchronous(operations[LIBRARY])
    said = {"model": "long", "messages": MESSAGES}
    return (lambda: Ready(chunks)), (lambda: wrapper(lambda **_: Ready(chunks), None, (), said))


LIBRARY, TRACER = sys.argv[1:3]
call, stream = globals()[f"{LIBRARY.replace('-', '_')}_client"]()
on, off = {
    "tracekeeper": tracekeeper_,
    "openinference": openinference,
    "openllmetry": openllmetry,
    "langfuse": langfuse,
    "litellm-callback": litellm_callback,
    "none": nothing,
}[TRACER]()
figures = {}
pair = ready() if TRACER == "tracekeeper" else None


def measure(prefix):
    figures.setdefault(f"{prefix}call", []).append(cpu_of_calls(call))
    if stream is not None:
        figures.setdefault(f"{prefix}chunk", []).append(cpu_of_chunks(stream))
    if pair is not None:
        ready_stream = pair[0] if prefix else pair[1]
        cheap = (cpu_of_chunks(ready_stream) for _ in range(20))  # two milliseconds each
        figures.setdefault(f"{prefix}ready chunk", []).append(statistics.median(cheap))


measure("bare ")
on()
if TRACER == "tracekeeper":  # a figure of a tracer that saw nothing would be a lie
    import tracekeeper as tk

    with tk.recording() as recording:
        call()
    assert recording.get() is not None, "the call left no record"
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
