"""``tk.LM``: one model, asked from anywhere, in one shape."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tracekeeper.concurrency.limits import Limiter
from tracekeeper.concurrency.retry import Retry
from tracekeeper.configuration import settings
from tracekeeper.lm import asking
from tracekeeper.lm.answer import Answer
from tracekeeper.lm.asking import Reply
from tracekeeper.lm.cache import load, once, place_of
from tracekeeper.lm.feed import Feed
from tracekeeper.lm.making import cache_of, check_limits, limiter_of, reached
from tracekeeper.lm.output import Output
from tracekeeper.lm.prices import Price, price_from
from tracekeeper.lm.prompt import Prompt, prompt_of
from tracekeeper.lm.source import Source
from tracekeeper.lm.spans import Call
from tracekeeper.lm.streams import FeedReader, LMAsyncStream, LMStream
from tracekeeper.lm.timeouts import Timeouts, timeouts_of
from tracekeeper.tracing.responses import traced
from tracekeeper.tracing.spans import Span
from tracekeeper.types import ConfigurationError

Given = str | Iterable[Mapping[str, Any]]
Stream = TypeVar("Stream", LMStream, LMAsyncStream)


class LM:
    """A language model: ``lm("Hello").text``, ``await lm.acall(…)``, ``for chunk in lm.stream(…)``.

    Each call is one ``llm`` span with model, usage and cost, and ends within its deadlines. One object serves any
    number of threads, tasks and event loops.

    Parameters
    ----------
    model:
        ``"provider/model"`` (see ``tracekeeper.lm.providers``), or any callable from a text or from messages to a text,
        sync or async, at once or in pieces.
    api_base, api_key:
        Where it is and what opens it; default: the provider's own address, and its environment variable.
    timeout:
        Seconds in total for one request, or ``tk.Timeouts(total=…, connect=…, first_token=…, between_tokens=…)``.
    retries:
        Further requests after one that failed and may succeed; waiting for them takes two minutes at most in all.
    fallbacks:
        Models that are asked in turn when this one gives no answer: names or ``tk.LM`` objects.
    requests_per_minute, tokens_per_minute, max_concurrency:
        Limits, shared by everything in this process that asks the same model at the same address.
    cache:
        ``True``: answers are kept on disk, and the same question is paid once, also by threads that ask it at the same
        time. A text: the same, apart from others (a namespace). Streams are never kept.
    price:
        What it costs, where the table that comes along does not know or another price was agreed: ``tk.Price(…)``.
    client:
        Options of the client's own constructor, such as ``default_headers``.
    options:
        Sent with every request: ``temperature=0``, ``max_tokens=500``, …

    Raises
    ------
    ConfigurationError
        An unknown provider (the nearest ones are named), or a number that cannot work.
    MissingExtraError
        The provider's client is not installed; the message holds the line that installs it.

    Example
    -------
    >>> lm = LM(lambda prompt: prompt.upper())
    >>> lm("Hello").text
    'HELLO'
    """

    def __init__(
        self,
        model: str | Callable[..., Any],
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        timeout: float | Timeouts | Mapping[str, Any] | None = None,
        retries: int = 2,
        fallbacks: Sequence[str | LM | Callable[..., Any]] = (),
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_concurrency: int | None = None,
        cache: bool | str = False,
        price: Price | Mapping[str, Any] | None = None,
        client: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if isinstance(fallbacks, str | LM) or not isinstance(fallbacks, Iterable):
            raise ConfigurationError("fallbacks= takes a list: fallbacks=['openai/gpt-4.1-mini']")
        if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
            raise ConfigurationError(f"retries={retries!r}: expected a whole number, at least 0")
        limits = {
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "max_concurrency": max_concurrency,
        }
        check_limits(limits)
        name, provider_model, adapter = reached(model, api_base, api_key, dict(client or {}))
        self.name = name
        """As it was given."""
        self._source = Source(
            name,
            provider_model,
            adapter,
            Timeouts() if timeout is None else timeouts_of(timeout),
            Retry(retries=retries),
            limiter_of(name, api_base, adapter, limits),
            options,
            None if price is None else price_from(price),
        )
        self._address = api_base
        self._cache = cache_of(cache, model)
        self.fallbacks = tuple(lm_of(one) for one in fallbacks)

    # -- four doors --------------------------------------------------------------------------------------------

    def __call__(
        self,
        prompt: Given,
        *,
        system: str | None = None,
        images: Sequence[Any] = (),
        tools: Sequence[Mapping[str, Any]] = (),
        output: Any = None,
        cache: bool | str | None = None,
        **options: Any,
    ) -> Answer:
        """Ask, and wait for the whole answer.

        Parameters
        ----------
        prompt:
            A text, or messages: ``[{"role": "user", "content": "…"}, …]``.
        system:
            Put before them.
        images:
            Paths, bytes or URLs, added to the last message of the user.
        tools:
            ``{"name": …, "description": …, "parameters": a JSON schema}`` each; what the model wants to be called is in
            ``Answer.tool_calls``.
        output:
            A pydantic model or a JSON schema: ``Answer.output`` is valid by it. An answer that is not goes back once.
        cache:
            ``False``: ask anew and keep nothing; a text: keep the answer apart from others.
        options:
            Sent with this request.

        Raises
        ------
        PromptError
            Something of the question cannot be sent; nothing was.
        LMError
            There is no answer; ``LMTimeoutError`` none in time, ``OutputError`` none that is valid.
        """
        call, asked = self._begun(prompt, system, images, tools, output, options)
        try:
            kept, place = self._kept(asked, cache)
            reply = self._source.adapter.engine.run(self._work(asked, place), call.context) if kept is None else kept
        except BaseException as error:
            call.failed(error)
            raise
        return _done(call, reply)

    async def acall(
        self,
        prompt: Given,
        *,
        system: str | None = None,
        images: Sequence[Any] = (),
        tools: Sequence[Mapping[str, Any]] = (),
        output: Any = None,
        cache: bool | str | None = None,
        **options: Any,
    ) -> Answer:
        """The same for a task; cancelling it closes the connection."""
        call, asked = self._begun(prompt, system, images, tools, output, options)
        try:
            kept, place = self._kept(asked, cache)
            engine = self._source.adapter.engine
            reply = await engine.arun(self._work(asked, place), call.context) if kept is None else kept
        except BaseException as error:
            call.failed(error)
            raise
        return _done(call, reply)

    def stream(
        self,
        prompt: Given,
        *,
        system: str | None = None,
        images: Sequence[Any] = (),
        tools: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> LMStream:
        """Ask, and get the answer in pieces; ``stream.answer`` is the whole of it at the end.

        A stream that is left early (``break``, ``close()``, garbage) ends there, with what came.
        """
        return self._streamed(LMStream, prompt, system, images, tools, options)

    def astream(
        self,
        prompt: Given,
        *,
        system: str | None = None,
        images: Sequence[Any] = (),
        tools: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> LMAsyncStream:
        """The same for a task: ``async for chunk in lm.astream(…)``."""
        return self._streamed(LMAsyncStream, prompt, system, images, tools, options)

    # -- what they share ---------------------------------------------------------------------------------------

    def _begun(
        self,
        given: Given,
        system: str | None,
        images: Sequence[Any],
        tools: Sequence[Mapping[str, Any]],
        output: Any,
        options: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> tuple[Call, Prompt]:
        wanted = None if output is None else Output(output)
        asked = prompt_of(given, system=system, images=images, tools=tools, output=wanted, options=options)
        for source in self._sources():
            source.adapter.prepare()
        return Call(self._source, asked, stream=stream), asked

    def _streamed(
        self,
        kind: type[Stream],
        given: Given,
        system: str | None,
        images: Sequence[Any],
        tools: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
    ) -> Stream:
        """A stream of this kind, whose span ends with it."""
        call, asked = self._begun(given, system, images, tools, None, options, stream=True)
        feed = Feed(self._sources(), asked)
        stream = kind(feed, call)
        if not isinstance(call.span, Span):
            return stream
        followed: Stream = traced(call.span, stream, FeedReader(feed, call.inside))
        return followed

    def _kept(self, asked: Prompt, given: bool | str | None) -> tuple[Reply | None, Path | None]:
        """The answer that is kept, and where it is or will be; nothing where none is to be kept."""
        namespace = self._cache if given is None else cache_of(given, self._source.adapter)
        if namespace is None:
            return None, None
        place = place_of(self._source, self._address, asked, namespace)
        return load(place, self._source, asked), place

    def _work(self, asked: Prompt, place: Path | None) -> Coroutine[Any, Any, Reply]:
        ask = partial(asking.ask, self._sources(), asked)
        return ask() if place is None else once(place, self._source, asked, ask)

    def _sources(self) -> tuple[Source, ...]:
        return (self._source, *(source for other in self.fallbacks for source in other._sources()))

    @property
    def limiter(self) -> Limiter | None:
        """What holds its calls back; ``limiter.state()`` tells."""
        return self._source.limiter

    @staticmethod
    def current() -> LM:
        """The model that is set here: by ``tk.context(lm=…)``, ``tk.configure(lm=…)`` or ``TRACEKEEPER_LM``.

        Raises
        ------
        ConfigurationError
            None is; the message says how to set one.

        Example
        -------
        >>> import tracekeeper as tk
        >>> with tk.context(lm=tk.LM(lambda prompt: "Mild.")):
        ...     tk.LM.current()("What is the weather like?").text
        'Mild.'
        """
        found = settings().lm
        if found is None:
            raise ConfigurationError(
                "no language model is set: tk.configure(lm=tk.LM('openai/gpt-4.1-mini')) sets one for the process, "
                "tk.context(lm=…) for a block, TRACEKEEPER_LM=openai/gpt-4.1-mini from outside"
            )
        return lm_of(found)

    def __repr__(self) -> str:
        return f"LM({self.name!r})"


_by_name: dict[str, LM] = {}


def lm_of(given: Any) -> LM:
    """A model as it may be given: an ``LM``, a name, or a callable.

    Raises
    ------
    ConfigurationError
        It is none of them.
    """
    if isinstance(given, LM):
        return given
    if isinstance(given, str):
        found = _by_name.get(given)
        return _by_name.setdefault(given, LM(given)) if found is None else found
    if callable(given):
        return LM(given)
    raise ConfigurationError(f"lm={given!r}: expected a tk.LM, a name such as 'openai/gpt-4.1-mini', or a callable")


def _done(call: Call, reply: Reply) -> Answer:
    if reply.answer.cached:
        call.done(reply, None)
        return reply.answer
    usage = call.inside.usage(reply.answer.usage)
    call.done(reply, usage)
    return reply.answer if usage is reply.answer.usage else msgspec.structs.replace(reply.answer, usage=usage)
