"""Answers kept on disk: the same question to the same model is paid once.

One file for each answer, under ``cache/lm`` of the data directory, named by a digest of all that is sent. A file is
written apart and moved into place, so that any number of processes may read and write: nobody ever sees half of one.
What is read is decoded anew each time, so that no two callers hold the same object.

A cache never breaks a call: a file that cannot be read or written counts as not there, and is said once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec

from tracekeeper.conventions.told import Told
from tracekeeper.lm.answer import Answer, ToolCall
from tracekeeper.lm.asking import Reply
from tracekeeper.lm.output import Invalid
from tracekeeper.lm.prompt import Prompt
from tracekeeper.lm.source import Source
from tracekeeper.tracing import runtime, trouble
from tracekeeper.types import PromptError, Usage

VERSION = 1
"""Of the files; increased with their form."""
_inside: ContextVar[tuple[str, ...]] = ContextVar("tracekeeper_cache_namespace", default=())


class _Kept(msgspec.Struct):
    """What a file holds."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage | None
    model: str | None
    finish_reason: str | None
    output: Any
    attributes: dict[str, Any]


@contextlib.contextmanager
def cache_namespace(name: str) -> Iterator[None]:
    """Keep the answers of the calls made inside apart: the third repeat of an experiment is not the first one's echo.

    Example
    -------
    >>> with cache_namespace("repeat-2"):
    ...     pass
    """
    token = _inside.set((*_inside.get(), name))
    try:
        yield
    finally:
        _inside.reset(token)


def place_of(source: Source, address: str | None, prompt: Prompt, namespace: str) -> Path:
    """The file of a question's answer.

    Raises
    ------
    PromptError
        Something of the question is no plain data, so that nobody could tell whether it was asked before.
    """
    said = {
        "version": VERSION,
        "namespace": [namespace, *_inside.get()],
        "model": [source.name, address],
        "sent": source.prepare(prompt),
        "output": prompt.output.schema if prompt.output is not None else None,
    }
    try:
        digest = hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()
    except (TypeError, ValueError) as error:
        raise PromptError(f"cache= needs plain data in the question and its options: {error}") from None
    return runtime.keeper().directory / "cache" / "lm" / digest[:2] / f"{digest[2:]}.json"


def load(place: Path, source: Source, prompt: Prompt) -> Reply | None:
    """The answer that is kept, if there is one."""
    try:
        kept = msgspec.json.decode(place.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        trouble.note("reading a kept answer", error)
        return None
    output = None
    if prompt.output is not None:
        try:
            output = prompt.output.read(kept.text)
        except Invalid:  # the schema has the same text, and a validator of the program's own another mind
            return None
    answer = Answer(
        text=kept.text,
        output=output,
        tool_calls=kept.tool_calls,
        usage=kept.usage,
        model=kept.model,
        finish_reason=kept.finish_reason,
        cached=True,
        attempts=0,
    )
    return Reply(answer, Told(kept.output, None, kept.model, kept.attributes, True), source)


def store(place: Path, reply: Reply) -> None:
    """Keep an answer."""
    answer, told = reply.answer, reply.told
    kept = _Kept(
        answer.text,
        answer.tool_calls,
        answer.usage,
        answer.model,
        answer.finish_reason,
        told.output,
        told.attributes,
    )
    new = place.with_name(f".{place.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(kept))
        os.replace(new, place)
    except (OSError, TypeError, ValueError) as error:
        trouble.note("keeping an answer", error)
        with contextlib.suppress(OSError):
            new.unlink()


class Flight:
    """One question under way, and how many wait for it."""

    def __init__(self, task: asyncio.Task[Reply]) -> None:
        self.task = task
        self.waiting = 0
        self.counted = False


_flights: weakref.WeakKeyDictionary[Any, dict[Path, Flight]] = weakref.WeakKeyDictionary()


async def once(place: Path, source: Source, prompt: Prompt, ask: Callable[[], Coroutine[Any, Any, Reply]]) -> Reply:
    """The answer: kept, or of the question that is under way already, or of one that is asked now.

    Runs on an engine's loop, so that all threads and loops of the program meet here. Who goes away leaves the question
    to the others; when the last one goes, it is cancelled. Of those who wait, one counts what it took.
    """
    flights = _flights.setdefault(asyncio.get_running_loop(), {})
    flight = flights.get(place)
    if flight is None:
        kept = load(place, source, prompt)
        if kept is not None:
            return kept
        flight = flights[place] = Flight(asyncio.ensure_future(_asked(place, ask)))
        flight.task.add_done_callback(lambda task: _landed(flights, place, task))
    flight.waiting += 1
    try:
        reply = await asyncio.shield(flight.task)
    finally:
        flight.waiting -= 1
        if not flight.waiting and not flight.task.done():
            flights.pop(place, None)
            flight.task.cancel()
    if not flight.counted:
        flight.counted = True
        return reply
    again = load(place, source, prompt)  # a value of its own, which nobody else can change
    return again if again is not None else _shared(reply, prompt)


async def _asked(place: Path, ask: Callable[[], Coroutine[Any, Any, Reply]]) -> Reply:
    reply = await ask()
    store(place, reply)
    return reply


def _landed(flights: dict[Path, Flight], place: Path, task: asyncio.Task[Reply]) -> None:
    flight = flights.get(place)
    if flight is not None and flight.task is task:
        del flights[place]
    if not task.cancelled():
        task.exception()  # those who waited may all have gone: nobody else is to be told


def _shared(reply: Reply, prompt: Prompt) -> Reply:
    """For a disk that keeps nothing."""
    answer = reply.answer
    changes: dict[str, Any] = {"cached": True, "attempts": 0}
    if prompt.output is not None:
        changes["output"] = prompt.output.read(answer.text)
    calls = msgspec.json.decode(msgspec.json.encode(answer.tool_calls), type=tuple[ToolCall, ...])
    return Reply(msgspec.structs.replace(answer, tool_calls=calls, **changes), reply.told, reply.source)
