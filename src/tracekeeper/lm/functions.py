"""Any callable as a model: sync or async, from a text or from messages to a text, at once or in pieces.

It runs on the deadline runner: a sync function in a daemon thread, an async one on a loop of the runner's. One that
does not come back is given up at its deadline, and counted.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from tracekeeper.concurrency.outcome import Outcome
from tracekeeper.concurrency.runner import Runner
from tracekeeper.concurrency.shapes import describe
from tracekeeper.conventions.told import Told
from tracekeeper.lm.answer import Answer
from tracekeeper.lm.engine import OTHERS
from tracekeeper.lm.prompt import Prompt
from tracekeeper.lm.timeouts import Timeouts

_RUNNER: list[Runner] = []
_CONCURRENCY = 1024
_END = object()


class FunctionAdapter:
    """One callable.

    It gets the prompt's text, or the messages if its first parameter is named ``messages`` or annotated as a list; of
    the options those that it has parameters for. It returns a text, an ``Answer``, or an iterator of texts.
    """

    engine = OTHERS
    limited = False
    provider = "function"

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._takes_messages, self._takes = _parameters(function)

    def prepare(self) -> None:
        """Have a runner."""
        if not _RUNNER:
            _RUNNER.append(Runner(name="lm", concurrency=_CONCURRENCY))

    def options(self, prompt: Prompt) -> dict[str, Any]:
        """Its arguments; the first is ``""``."""
        messages = prompt.messages
        if prompt.output is not None:
            messages = ({"role": "system", "content": prompt.output.instructions()}, *messages)
        given: Any = list(messages) if self._takes_messages else prompt.text()
        if prompt.output is not None and not self._takes_messages:
            given = f"{given}\n\n{prompt.output.instructions()}"
        extra = {"tools": list(prompt.tools)} if prompt.tools else {}
        options = {**prompt.options, **extra}
        return {"": given, **{name: options[name] for name in options if self._takes is None or name in self._takes}}

    async def call(self, options: dict[str, Any], timeouts: Timeouts) -> Told:
        """What it returns; pieces are put together."""
        result = await self._result(options, timeouts)
        if isinstance(result, str):
            return Told(output=result, finished=True)
        if isinstance(result, Answer):
            return _told(result)
        pieces = [piece async for piece in _pieces(result, timeouts)]
        return Told(output="".join(pieces), finished=True)

    async def stream(self, options: dict[str, Any], timeouts: Timeouts) -> AsyncIterator[Any]:
        """The pieces that it gives, or its whole answer as one."""
        result = await self._result(options, timeouts)
        return _one(result) if isinstance(result, str | Answer) else _pieces(result, timeouts)

    def reader(self) -> _TextReader:
        """Of one stream."""
        return _TextReader()

    async def _result(self, options: dict[str, Any], timeouts: Timeouts) -> Any:
        options = dict(options)
        given = options.pop("")
        result = await _run(partial(self._function, given, **options), timeouts)
        if (
            not isinstance(result, str | Answer)
            and not hasattr(result, "__aiter__")
            and not hasattr(result, "__next__")
        ):
            raise TypeError(
                f"{describe(self._function)} returned {type(result).__name__}; a model returns a text, "
                "a tk.Answer or an iterator of texts"
            )
        return result


class _TextReader:
    """Texts, or one whole answer."""

    def __init__(self) -> None:
        self._answer: Answer | None = None

    def read(self, piece: Any) -> str | None:
        if isinstance(piece, Answer):
            self._answer = piece
            return piece.text
        return str(piece)

    def told(self, text: str) -> Told:
        return Told() if self._answer is None else _told(self._answer)


def _told(answer: Answer) -> Told:
    output: Any = answer.text
    if answer.tool_calls:
        calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in answer.tool_calls]
        output = {"role": "assistant", "content": answer.text, "tool_calls": calls}
    reasons = {"gen_ai.response.finish_reasons": [answer.finish_reason]} if answer.finish_reason else {}
    return Told(output=output, usage=answer.usage, model=answer.model, attributes=reasons, finished=True)


async def _one(piece: Any) -> AsyncIterator[Any]:
    yield piece


async def _pieces(result: Any, timeouts: Timeouts) -> AsyncIterator[Any]:
    try:
        if hasattr(result, "__aiter__"):
            async for piece in result:
                yield piece
            return
        while (piece := await _run(partial(next, result, _END), timeouts)) is not _END:
            yield piece
    finally:  # left early: the function's own `finally` runs now
        if hasattr(result, "aclose"):
            await result.aclose()
        elif hasattr(result, "close"):
            await _run(result.close, timeouts)


async def _run(call: Callable[[], Any], timeouts: Timeouts) -> Any:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Outcome[Any]] = loop.create_future()

    def done(outcome: Outcome[Any]) -> None:
        loop.call_soon_threadsafe(_settle, future, outcome)

    runner = _RUNNER[0]
    task = runner.start(call, timeout=timeouts.total, done=done, context=contextvars.copy_context())
    try:
        return (await future).unwrap()
    except asyncio.CancelledError:
        runner.cancel(task, "nobody waits for its answer any more")
        raise


def _settle(future: asyncio.Future[Any], outcome: Any) -> None:
    if not future.done():
        future.set_result(outcome)


def _parameters(function: Callable[..., Any]) -> tuple[bool, frozenset[str] | None]:
    """Whether it wants the messages, and which options it takes (``None``: all)."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # of C, without a signature: a text and nothing else
        return False, frozenset()
    wants = False
    if parameters:
        first = parameters[0]
        said = first.annotation if isinstance(first.annotation, str) else getattr(first.annotation, "__name__", "")
        wants = first.name == "messages" or said.lower().startswith(("list", "sequence"))
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return wants, None
    return wants, frozenset(
        one.name for one in parameters[1:] if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)
    )
