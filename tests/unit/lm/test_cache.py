"""The cache: paid once, by many threads, loops and processes at a time; values of one's own; bypass and namespaces."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import in_a_loop
from tests.support.spans import stored
from tests.support.wire import TEXT, WireServer
from tests.unit.lm.conftest import Making

import tracekeeper as tk
from tracekeeper.lm.cache import cache_namespace


def files() -> list[Path]:
    return list(Path(".").rglob("cache/lm/*/*.json"))


@pytest.fixture(autouse=True)
def _kept_here(keeper: object) -> None:
    """In a data directory of the test's own."""


def test_the_same_question_is_paid_once(lm: Making, server: WireServer) -> None:
    model = lm("openai/full", cache=True)
    first, second = model("Hello"), model("Hello")
    third = asyncio.run(lm("openai/full", cache=True).acall("Hello"))
    assert (first.cached, second.cached, third.cached) == (False, True, True)
    assert first.text == second.text == third.text == TEXT
    assert (second.usage, second.model, second.finish_reason) == (first.usage, first.model, first.finish_reason)
    assert len(server.requests) == 1
    for other in (
        lambda: model("Hello!"),
        lambda: model("Hello", temperature=1),
        lambda: model("Hello", system="x"),
        lambda: lm("openai/empty", cache=True)("Hello"),
        lambda: model("Hello", max_tokens=5),
    ):
        assert not other().cached
    assert len(server.requests) == 6


def test_bypass_and_namespaces_ask_anew(lm: Making, server: WireServer) -> None:
    model = lm("openai/full", cache=True)
    model("Hello")
    assert not model("Hello", cache=False).cached
    assert not lm("openai/full")("Hello").cached
    assert not model("Hello", cache="apart").cached
    assert model("Hello", cache="apart").cached
    for repeat in range(3):
        with cache_namespace(f"repeat-{repeat}"):
            assert not model("Hello").cached
            assert model("Hello").cached
    assert model("Hello").cached
    assert len(server.requests) == 7


@pytest.mark.parametrize("asking", ["threads", "loops"])
def test_sixteen_at_once_with_one_question_make_one_call(asking: str, lm: Making, server: WireServer) -> None:
    model = lm("openai/hang", cache=True)
    answers: list[tk.Answer] = []
    ready = threading.Barrier(17)

    def thread() -> None:
        ready.wait(30)
        answers.append(model("Hello") if asking == "threads" else asyncio.run(model.acall("Hello")))

    threads = [threading.Thread(target=thread) for _ in range(16)]
    for one in threads:
        one.start()
    ready.wait(30)
    server.let_go.set()
    for one in threads:
        one.join(30)
    assert [answer.text for answer in answers] == [TEXT] * 16
    assert len(server.requests) == 1
    assert sum(not answer.cached for answer in answers) == 1, "one counts what it took"


@in_a_loop
async def _first_leaves(model: tk.LM, server: WireServer) -> None:
    first, second = (asyncio.ensure_future(model.acall("Hello")) for _ in range(2))
    while not server.requests:
        await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    server.let_go.set()
    answer = await second
    assert (answer.text, answer.cached) == (TEXT, False)


def test_who_goes_away_leaves_the_question_to_the_others(lm: Making, server: WireServer) -> None:
    _first_leaves(lm("openai/hang", cache=True), server)
    assert len(server.requests) == 1


@pytest.mark.slow
def test_when_the_last_one_goes_the_call_is_ended(lm: Making, server: WireServer) -> None:
    model = lm("openai/drip", cache=True, timeout=60)

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(model.acall("Hello"), 0.5)

    asyncio.run(leave())
    assert server.gone.acquire(timeout=10)
    assert files() == []


def test_a_failure_is_everybodys_and_is_not_kept(lm: Making, server: WireServer) -> None:
    model = lm("openai/full", cache=True)
    server.script.append({"status": 400})
    with pytest.raises(tk.LMError):
        model("Hello")
    assert not model("Hello").cached


def test_nobody_can_change_what_others_get(lm: Making, server: WireServer) -> None:
    model = lm("openai/tools", cache=True)
    first = model("Hello")
    first.tool_calls[0].arguments["place"] = "nowhere"
    hit = model("Hello")
    assert hit.tool_calls[0].arguments == {"place": "Ireland"}
    hit.tool_calls[0].arguments.clear()
    assert model("Hello").tool_calls[0].arguments == {"place": "Ireland"}
    with pytest.raises(AttributeError):
        hit.text = "other"  # type: ignore[misc]
    server.script.append({"text": '{"a": [1]}'})
    wanted: dict[str, Any] = {"type": "object"}
    for _ in range(3):
        output = model("Value?", output=wanted).output
        assert output == {"a": [1]}
        output["a"].append(2)


def test_a_damaged_file_or_a_disk_that_takes_nothing_breaks_no_call(
    lm: Making, server: WireServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = lm("openai/full", cache=True)
    model("Hello")
    [file] = files()
    file.write_bytes(b'{"text": "half of')
    assert not model("Hello").cached
    assert model("Hello").cached
    monkeypatch.setattr("os.replace", _no_room)
    assert model("Other").text == TEXT
    assert not model("Other").cached
    assert len(files()) == 1
    assert [path for path in file.parent.parent.rglob(".*") if path.is_file()] == [], "nothing half-made stays"


def _no_room(*_: object) -> None:
    raise OSError(28, "No space left on device")


WRITER = """
import sys, tracekeeper as tk
lm = tk.LM("openai/full", api_base=sys.argv[1], api_key="k", cache=True)
tk.configure(directory=sys.argv[2])
for number in range(20):
    assert lm(f"Question {number}").text == sys.argv[3], number
"""


@pytest.mark.slow
def test_processes_share_it(lm: Making, server: WireServer, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", WRITER, f"{server.url}/v1", str(tmp_path / "shared"), TEXT]
    several = [subprocess.Popen(arguments) for _ in range(3)]
    assert [one.wait(60) for one in several] == [0, 0, 0]
    assert len({path.name for path in (tmp_path / "shared").rglob("*.json")}) == 20
    before = len(server.requests)
    assert subprocess.run(arguments, timeout=60, check=False).returncode == 0
    assert len(server.requests) == before


def test_a_hit_is_a_span_without_usage(lm: Making, server: WireServer, keeper: Any) -> None:
    model = lm("openai/full", cache=True)
    model("Hello")
    model("Hello")
    tk.flush(timeout=20)
    query = "SELECT status, input_tokens, output_tokens FROM span ORDER BY id"
    assert stored(keeper.directory, query) == [("ok", 7, 10), ("ok", None, None)]


def test_what_cannot_be_kept_is_said_at_once(lm: Making) -> None:
    with pytest.raises(tk.ConfigurationError, match="cache=True: two functions may have one name; name its cache"):
        tk.LM(str.upper, cache=True)
    with pytest.raises(tk.ConfigurationError, match="cache=5: expected True, False or the name"):
        lm("openai/full", cache=5)
    with pytest.raises(tk.PromptError, match="cache= needs plain data in the question"):
        lm("openai/full", cache=True)("Hello", metadata={"x": object()})
    calls: list[str] = []
    named = tk.LM(lambda prompt: calls.append(prompt) or "a", cache="mine-1")
    assert [named("x").text, named("x").text, calls] == ["a", "a", ["x"]]
