"""MCP: a tool's call on both sides, one trace through the protocol."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.clients import attributes, fixture, tree
from tests.support.fake_keeper import FakeKeeper
from tests.support.programs import environment, run
from tests.support.spans import stored

import tracekeeper as tk

pytest.importorskip("mcp")

from mcp import ClientSession, StdioServerParameters, stdio_client

seen = fixture("mcp")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SERVER = """
import tracekeeper as tk
tk.instrument("mcp")
try:
    from mcp.server.mcpserver import MCPServer
except ImportError:
    from mcp.server.fastmcp import FastMCP as MCPServer
server = MCPServer("weather")

@tk.trace(name="looked_up")
def looked_up(place):
    return "mild in " + place

@server.tool()
def weather(place: str) -> str:
    if place == "nowhere":
        raise ValueError("there is no such place")
    return looked_up(place)

server.run()
"""


def call(directory: Path, place: str) -> Any:
    """Call the tool of a server in a process of its own."""
    (directory / "server.py").write_text(SERVER)
    found = StdioServerParameters(
        command=sys.executable,
        args=[str(directory / "server.py")],
        env=environment(TRACEKEEPER_DIRECTORY=str(directory / "data")),
        cwd=str(directory),
    )

    async def go() -> Any:
        async with stdio_client(found) as (reading, writing), ClientSession(reading, writing) as session:
            await session.initialize()
            return await session.call_tool("weather", {"place": place})

    return asyncio.run(go())


@pytest.mark.slow
def test_a_call_is_one_trace_in_two_processes(seen: FakeKeeper, tmp_path: Path) -> None:
    with tk.span("caller"):
        result = call(tmp_path, "Ireland")
    assert result.content[0].text == "mild in Ireland"
    assert tree(seen) == [" > caller task ok", "caller > tools/call weather tool ok"]
    assert seen.input("call weather") == {"place": "Ireland"}
    assert "mild in Ireland" in str(seen.output("call weather"))
    assert attributes(seen, "call weather")["mcp.method.name"] == "tools/call"
    spans = {span.name: span for span in _stored(tmp_path / "data")}
    assert spans["weather"].trace_id == seen.start("call weather").trace_id.hex()
    assert spans["weather"].parent_id == seen.start("call weather").span_id.hex()
    assert spans["looked_up"].parent_id == spans["weather"].span_id


class _Row:
    def __init__(self, name: str, trace_id: str, span_id: str, parent_id: str | None) -> None:
        self.name, self.trace_id, self.span_id = name, str(trace_id), str(span_id)
        self.parent_id = parent_id


def _stored(directory: Path) -> list[_Row]:
    """What the server's process has stored, or left in its journal for whoever comes next."""
    ended = run("import tracekeeper as tk; tk.flush()", directory, TRACEKEEPER_DIRECTORY=str(directory))
    assert ended.code == 0, ended.err
    return [_Row(*row) for row in stored(directory, "SELECT name, trace_id, span_id, parent_id FROM span")]  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_tools_failure_is_kept_and_given_back(seen: FakeKeeper, tmp_path: Path) -> None:
    result = call(tmp_path, "nowhere")
    assert getattr(result, "is_error", getattr(result, "isError", None)) is True
    end = seen.end("call weather")
    assert end.status == "error"
    assert "weather" in end.error.message


def test_put_back_nothing_is_traced(seen: FakeKeeper) -> None:
    tk.uninstrument("mcp")
    assert type(vars(ClientSession)["call_tool"]).__name__ == "function"
