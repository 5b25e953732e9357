"""Calls of a model, by every way there is: answer, span, retries, fallbacks, structured output, tools, images."""

from __future__ import annotations

import asyncio
import base64
import threading
from pathlib import Path
from typing import Any

import pydantic
import pytest
from tests.support.loops import in_a_loop
from tests.support.wire import TEXT, WireServer
from tests.unit.lm.conftest import LITELLM, Making

import tracekeeper as tk

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PROVIDERS = ["openai", "ollama", "openrouter", "anthropic", LITELLM]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_call_by_every_provider_is_answered_and_is_one_span(provider: str, lm: Making, keeper: object) -> None:
    tk.instrument("openai", "anthropic", "litellm")
    try:
        model = lm(f"{provider}/full")
        answer = model("What is the weather like?", system="Be brief.", temperature=0.5)
        again = asyncio.run(model.acall("What is the weather like?", system="Be brief."))
    finally:
        tk.uninstrument()
    assert answer.text == again.text == TEXT == str(answer)
    assert (
        answer.usage
        == again.usage
        == tk.Usage(
            input_tokens=7, output_tokens=10, cost=answer.usage.cost, cache_read_tokens=answer.usage.cache_read_tokens
        )
    )
    assert answer.finish_reason in ("stop", "end_turn")
    assert answer.message == {"role": "assistant", "content": TEXT}
    tk.flush(timeout=20)
    records = list(tk.records())
    assert len(records) == 2
    for record in records:
        assert (record.name, record.status, record.output) == (
            "chat full" if "/" not in provider else "chat openai/full",
            "ok",
            TEXT,
        )
        assert record.input[0] == {"role": "system", "content": "Be brief."}


def test_azure_is_asked_at_its_deployments_with_its_own_key_and_version(
    server: WireServer, keeper: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tk.LM("azure/full", api_base=server.url, api_key="secret")
    assert (model("Hello").text, asyncio.run(model.acall("Hello")).text) == (TEXT, TEXT)
    assert "".join(chunk.text for chunk in model.stream("Hello")) == TEXT
    monkeypatch.setenv("OPENAI_API_VERSION", "2025-01-01-preview")
    assert tk.LM("azure/full", api_base=server.url, api_key="secret")("Hello").text == TEXT
    paths = [request["path"].partition("?") for request in server.requests]
    assert {path for path, _, _ in paths} == {"/openai/deployments/full/chat/completions"}
    assert [query for _, _, query in paths] == [*["api-version=2024-10-21"] * 3, "api-version=2025-01-01-preview"]
    headers = [{name.lower(): value for name, value in request["headers"].items()} for request in server.requests]
    assert {(each["api-key"], each.get("authorization")) for each in headers} == {("secret", None)}
    tk.flush(timeout=20)
    assert [record.status for record in tk.records()] == ["ok"] * 4
    assert len(tk.records('attr["gen_ai.provider.name"] = "azure.ai.openai"')) == 4


def test_a_conversation_with_a_tool_goes_through_by_both_formats(lm: Making, server: WireServer) -> None:
    tool = {"name": "weather", "description": "of a place", "parameters": {"type": "object", "properties": {}}}
    for name in ("openai/tools", "anthropic/tools"):
        asked = [{"role": "user", "content": "What is the weather like in Ireland?"}]
        model = lm(name)
        answer = model(asked, tools=[tool])
        [call] = answer.tool_calls
        assert (call.name, call.arguments) == ("weather", {"place": "Ireland"})
        result = {"role": "tool", "tool_call_id": call.id, "content": "mild"}
        lm(name.replace("tools", "full"))([*asked, answer.message, result], tools=[tool])
        stream = model.stream(asked, tools=[tool])
        assert [str(chunk) for chunk in stream] == []
        assert stream.answer.tool_calls == answer.tool_calls
    chat, messages = server.requests[1], server.requests[4]
    assert chat["messages"][1]["tool_calls"][0]["function"]["name"] == "weather"
    assert chat["messages"][2] == {"role": "tool", "tool_call_id": "call_1", "content": "mild"}
    assert messages["messages"][1]["content"] == [
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"place": "Ireland"}}
    ]
    assert messages["messages"][2]["content"] == [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "mild"}]
    assert messages["tools"] == [
        {"name": "weather", "description": "of a place", "input_schema": {"type": "object", "properties": {}}}
    ]


def test_images_are_sent_as_each_format_wants_them(lm: Making, server: WireServer, tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    path.write_bytes(PNG)
    given = [path, PNG, "https://example.org/map.png"]
    lm("openai/full")("What is this?", images=given)
    lm("anthropic/full")("What is this?", images=given)
    chat, messages = (request["messages"][0]["content"] for request in server.requests)
    assert [part["type"] for part in chat] == ["text", "image_url", "image_url", "image_url"]
    assert chat[1]["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert messages[1]["source"] == {
        "type": "base64",
        "media_type": "image/png",
        "data": base64.b64encode(PNG).decode(),
    }
    assert messages[3]["source"] == {"type": "url", "url": "https://example.org/map.png"}


def test_a_span_keeps_what_an_image_was_and_not_its_bytes(lm: Making, keeper: object) -> None:
    lm("openai/full")("What is this?", images=[PNG])
    tk.flush(timeout=20)
    [record] = tk.records()
    kept = record.input[0]["content"][1]
    assert (kept["type"], kept["media_type"], kept["bytes"]) == ("image", "image/png", 70)


class Weather(pydantic.BaseModel):
    place: str
    celsius: float


SCHEMA = {
    "title": "Weather",
    "type": "object",
    "properties": {"place": {"type": "string"}, "celsius": {"type": "number"}},
    "required": ["place", "celsius"],
}
GOOD = '{"place": "Ireland", "celsius": 11.5}'


@pytest.mark.parametrize("provider", ["openai", "anthropic", LITELLM])
@pytest.mark.parametrize("said", [GOOD, f"```json\n{GOOD}\n```"])
def test_structured_output_is_validated(provider: str, said: str, lm: Making, server: WireServer) -> None:
    server.script.extend([{"text": said}, {"text": said}])
    assert lm(f"{provider}/full")("Weather?", output=Weather).output == Weather(place="Ireland", celsius=11.5)
    assert lm(f"{provider}/full")("Weather?", output=SCHEMA).output == {"place": "Ireland", "celsius": 11.5}
    asked = server.requests[0]
    if provider == "openai":
        assert asked["response_format"]["json_schema"]["schema"] == Weather.model_json_schema()
    else:
        assert '"celsius"' in str(asked)


@pytest.mark.parametrize("output", [Weather, SCHEMA])
def test_an_invalid_answer_goes_back_once_with_the_reason(
    output: Any, lm: Making, server: WireServer, keeper: object
) -> None:
    server.script.extend([{"text": '{"place": "Ireland"}'}, {"text": GOOD}])
    answer = lm("openai/full")("Weather?", output=output)
    assert answer.attempts == 2
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (14, 20)
    told = server.requests[1]["messages"][2]["content"]
    assert "celsius" in told
    server.script.extend([{"text": "no"}, {"text": '{"place": 5}'}])
    with pytest.raises(
        tk.OutputError, match=r"its second answer is not valid by the schema Weather either: .*celsius"
    ) as failed:
        lm("openai/full")("Weather?", output=output)
    assert (failed.value.text, failed.value.usage.input_tokens) == ('{"place": 5}', 14)
    tk.flush(timeout=20)
    assert sorted(record.status for record in tk.records()) == ["error", "ok"], "a repair is part of its call's span"


@pytest.mark.slow
def test_what_may_succeed_is_asked_again_and_what_cannot_is_not(lm: Making, server: WireServer, keeper: object) -> None:
    server.script.extend(
        [{"status": 503, "headers": {"retry-after-ms": "1"}}, {"status": 429, "headers": {"retry-after-ms": "1"}}]
    )
    answer = lm("openai/full")("Hello")
    assert (answer.text, answer.attempts) == (TEXT, 3)
    for status in (400, 401, 403, 404, 422):
        before = len(server.requests)
        server.script.append({"status": status})
        with pytest.raises(tk.LMError, match=f"openai/full: .*{status}") as failed:
            lm("openai/full")("Hello")
        assert failed.value.status_code == status
        assert len(server.requests) == before + 1
    tk.flush(timeout=20)
    assert sum(1 for record in tk.records()) == 6, "one span for a call, however often it was sent"


def test_a_provider_that_says_too_much_gets_fewer_at_once(lm: Making, server: WireServer) -> None:
    model = lm("openai/full")
    width = model.limiter.state()["concurrency"]
    server.script.append({"status": 429, "headers": {"retry-after-ms": "1"}})
    model("Hello")
    assert model.limiter.state() | {"concurrency": width // 2, "throttled": 1, "in_flight": 0} == model.limiter.state()


@pytest.mark.slow
def test_the_next_model_answers_where_one_does_not(lm: Making, server: WireServer) -> None:
    first = lm("openai/refused", retries=0, fallbacks=[lm("anthropic/hang", timeout=0.2, retries=0), lm("openai/full")])
    answer = first("Hello")
    assert (answer.text, answer.model) == (TEXT, "full-served")
    assert "".join(map(str, first.stream("Hello"))) == TEXT
    with pytest.raises(tk.LMError, match=r"none of 2 models answered: openai/refused: .*; .*function: Hello") as failed:

        def function(prompt: str) -> str:
            raise ValueError(prompt)

        lm("openai/refused", retries=0, fallbacks=[tk.LM(function, retries=0)])("Hello")
    assert len(failed.value.__cause__.exceptions) == 2  # type: ignore[union-attr]


@in_a_loop
async def test_callables_of_every_kind_are_models() -> None:
    async def answering(messages: list[dict[str, str]], temperature: float = 0.0) -> str:
        await asyncio.sleep(0)
        return f"{messages[-1]['content']} {temperature}"

    def pieces(prompt: str) -> Any:
        yield from prompt.split()

    async def apieces(prompt: str) -> Any:
        for piece in prompt.split():
            yield piece

    for function, whole, parts in (
        (str.upper, "A B", ["A B"]),
        (lambda prompt: tk.Answer(text=prompt, usage=tk.Usage(input_tokens=1)), "a b", ["a b"]),
        (pieces, "ab", ["a", "b"]),
        (apieces, "ab", ["a", "b"]),
    ):
        lm = tk.LM(function)
        assert (await lm.acall("a b")).text == whole
        assert [str(chunk) async for chunk in lm.astream("a b")] == parts
        assert await asyncio.to_thread(lambda lm=lm: [str(chunk) for chunk in lm.stream("a b")]) == parts
    assert (await tk.LM(answering).acall("a", temperature=1.0, seed=4)).text == "a 1.0"
    with pytest.raises(tk.LMError, match="returned int; a model returns a text"):
        await tk.LM(lambda prompt: 5).acall("a")


def test_the_context_follows_into_a_callable_and_from_one_model_into_another(lm: Making, keeper: object) -> None:
    inner = lm("openai/full")

    def function(prompt: str) -> str:
        assert tk.settings().session_id == "s-1"
        return inner(prompt).text + inner(prompt).text

    with tk.context(session_id="s-1"):
        answer = tk.LM(function)("Hello")
    assert answer.usage.input_tokens == 14, "what it asked is what it took"
    tk.flush(timeout=20)
    [record] = tk.records()
    assert record.session_id == "s-1"


def test_the_model_that_is_set_is_found_and_a_missing_one_says_how() -> None:
    with pytest.raises(tk.ConfigurationError, match=r"no language model is set: tk\.configure\(lm=tk\.LM\("):
        tk.LM.current()
    tk.configure(lm=str.upper)
    other = tk.LM(str.lower)
    with tk.context(lm=other):
        assert tk.LM.current() is other
    assert tk.LM.current()("a").text == "A"
    with pytest.raises(tk.ConfigurationError, match=r"lm=5: expected tk\.LM"):
        tk.configure(lm=5)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: tk.LM("opnai/gpt"), tk.ConfigurationError, r"unknown provider 'opnai'; did you mean openai/gpt\b"),
        (lambda: tk.LM("gpt-4.1"), tk.ConfigurationError, r"names no provider: expected .*'openai/gpt-4.1'"),
        (lambda: tk.LM("openai/"), tk.ConfigurationError, r"expected a name after the provider"),
        (lambda: tk.LM(5), tk.ConfigurationError, r"model=5: expected a name"),
        (lambda: tk.LM("azure/gpt"), tk.ConfigurationError, r"needs api_base="),
        (lambda: tk.LM("openai/x", timeout=-1), tk.ConfigurationError, r"timeout total=-1: expected a number"),
        (lambda: tk.LM("openai/x", timeout={"totl": 1}), tk.ConfigurationError, r"unknown totl; known: total"),
        (lambda: tk.LM("openai/x", retries=1.5), tk.ConfigurationError, r"retries=1.5: expected a whole number"),
        (lambda: tk.LM("openai/x", max_concurrency=0), tk.ConfigurationError, r"max_concurrency=0: expected"),
        (lambda: tk.LM("openai/x", fallbacks="openai/y"), tk.ConfigurationError, r"fallbacks= takes a list"),
        (lambda: tk.LM("openai/x")("Hi"), tk.ConfigurationError, r"no API key for openai: set OPENAI_API_KEY"),
        (lambda: ASKED("Hi", images=["gone.png"]), tk.PromptError, r"image 'gone.png': there is no such file"),
        (lambda: ASKED("Hi", images=[b"text"]), tk.PromptError, r"an image of 4 bytes is no PNG, JPEG, GIF or WebP"),
        (lambda: ASKED("Hi", images="a.png"), tk.PromptError, r"images= takes a list"),
        (lambda: ASKED("Hi", output=int), tk.PromptError, r"expected a pydantic model or a JSON schema"),
        (lambda: ASKED("Hi", output={"type": "wrong"}), tk.PromptError, r"output= is no valid JSON schema: \$.type"),
        (lambda: ASKED("Hi", tools=[{"nme": 1}]), tk.PromptError, r"tool 0 is none"),
        (lambda: ASKED([]), tk.PromptError, r"the list of messages is empty"),
        (lambda: ASKED([{"role": "usr", "content": ""}]), tk.PromptError, r"message 0 has role 'usr'"),
        (lambda: ASKED(5), tk.PromptError, r"a prompt is a text or a list of messages, not int"),
    ],
)  # fmt: skip
def test_bad_input_is_said_at_once_in_a_sentence(
    make: Any, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(error, match=said) as raised:
        make()
    assert "\n" not in str(raised.value)


def _never(prompt: str) -> str:
    raise AssertionError("it was asked")


ASKED = tk.LM(_never)


@pytest.mark.parametrize("extra", ["openai", "anthropic", "litellm"])
def test_a_client_that_is_missing_is_named_with_the_line_that_installs_it(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(tk.MissingExtraError, match=rf"needs {extra}: pip install 'tracekeeper\[{extra}\]'"):
        tk.LM(f"{extra}/x")


def test_one_model_serves_threads_and_loops_at_once(lm: Making, server: WireServer) -> None:
    model = lm("openai/full")
    texts: list[str] = []

    async def many() -> None:
        texts.extend(answer.text for answer in await asyncio.gather(*(model.acall("Hello") for _ in range(8))))

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(3)]
    threads += [threading.Thread(target=lambda: texts.append(model("Hello").text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert texts == [TEXT] * 32


def test_calls_go_on_when_tracing_is_off(lm: Making, keeper: object, monkeypatch: pytest.MonkeyPatch) -> None:
    tk.configure(enabled=False)
    assert lm("openai/full")("Hello").text == TEXT
    assert "".join(map(str, lm("openai/full").stream("Hello"))) == TEXT
    tk.configure(enabled=True)
    tk.flush(timeout=20)
    assert list(tk.records()) == []
