"""Asking for a whole answer: places, deadlines, retries, fallbacks, and one repair of structured output.

All of it runs on the engine's loop, whichever door the call came through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from tracekeeper.conventions.told import Told
from tracekeeper.lm.answer import Answer, answered
from tracekeeper.lm.engine import Engine
from tracekeeper.lm.output import Invalid, Output
from tracekeeper.lm.prompt import Prompt
from tracekeeper.lm.source import Source, give_back
from tracekeeper.lm.timeouts import Deadlines
from tracekeeper.types import LMError, OutputError, Usage

T = TypeVar("T")


class Reply(msgspec.Struct):
    """What came, and of whom."""

    answer: Answer
    told: Told
    source: Source


async def ask(sources: Sequence[Source], prompt: Prompt) -> Reply:
    """The first model's answer, or that of the next where it has none; valid by the schema that was asked for."""
    reply = await _first(sources, prompt)
    output = prompt.output
    if output is None:
        return reply
    try:
        return _with_output(reply, output)
    except Invalid as reason:
        again = prompt.followed_by(reply.answer.message, {"role": "user", "content": output.again(reason)})
    second = await _first(sources, again)
    usage = added(reply.answer.usage, second.answer.usage)
    attempts = reply.answer.attempts + second.answer.attempts
    second.answer = msgspec.structs.replace(second.answer, usage=usage, attempts=attempts)
    try:
        return _with_output(second, output)
    except Invalid as reason:
        raise OutputError(
            f"{second.source.name}: its second answer is not valid by the schema {output.name} either: {reason}",
            model=second.source.name,
            text=second.answer.text,
            usage=usage,
        ) from None


def _with_output(reply: Reply, output: Output) -> Reply:
    reply.answer = msgspec.structs.replace(reply.answer, output=output.read(reply.answer.text))
    return reply


async def _first(sources: Sequence[Source], prompt: Prompt) -> Reply:
    failures: list[LMError] = []
    for source in sources:
        try:
            return await on(source.adapter.engine, _tried(source, prompt))
        except Exception as error:  # noqa: BLE001  the next model is asked; all errors are raised if none answers
            failures.append(caused(source, error))
    raise together(failures)


async def _tried(source: Source, prompt: Prompt) -> Reply:
    options = source.prepare(prompt)
    attempts = 0

    async def attempt() -> Told:
        nonlocal attempts
        place = await source.place(prompt)
        attempts += 1
        try:
            told = await Deadlines(source.timeouts, source.name).whole(source.adapter.call(options, source.timeouts))
        except BaseException as error:
            give_back(place, error)
            raise
        give_back(place, usage=source.usage(told))
        return told

    told = await source.retry.acall(attempt)
    answer = msgspec.structs.replace(answered(told, source.usage(told)), attempts=attempts)
    return Reply(answer, told, source)


async def on(engine: Engine, work: Coroutine[Any, Any, T]) -> T:
    """Do it on that engine, which may be the one that this runs on."""
    if engine.runs(asyncio.get_running_loop()):
        return await work
    return await engine.arun(work)


def caused(source: Source, error: Exception) -> LMError:
    """The error that is raised, with its cause."""
    failure = source.failed(error)
    if failure is not error:
        failure.__cause__ = error
    return failure


def together(failures: list[LMError]) -> LMError:
    """One error for what several models raised."""
    if len(failures) == 1:
        return failures[0]
    said = "; ".join(str(failure) for failure in failures)
    error = LMError(f"none of {len(failures)} models answered: {said}", model=failures[0].model)
    error.status_code = failures[-1].status_code
    error.__cause__ = ExceptionGroup("what each of them raised", failures)
    return error


def added(one: Usage | None, other: Usage | None) -> Usage | None:
    """The tokens of two requests; what one of them did not report is not known of both."""
    if one is None or other is None:
        return None
    fields = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cost")
    sums: dict[str, Any] = {}
    for field in fields:
        first, second = getattr(one, field), getattr(other, field)
        sums[field] = None if first is None or second is None else first + second
    return Usage(**sums, estimated=one.estimated or other.estimated)
