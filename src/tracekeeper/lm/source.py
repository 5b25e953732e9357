"""One model that can be asked: where it is, how long it may take, what holds its calls back."""

from __future__ import annotations

from typing import Any

import msgspec

from tracekeeper.concurrency.limits import Limiter, Place
from tracekeeper.concurrency.retry import Retry, Verdict, retry_after, verdict
from tracekeeper.conventions.told import Told
from tracekeeper.lm.adapter import Adapter
from tracekeeper.lm.prices import Price, price_of, priced
from tracekeeper.lm.prompt import Prompt
from tracekeeper.lm.timeouts import Timeouts
from tracekeeper.tracing.tokens import estimate
from tracekeeper.tracing.usage import read as read_usage
from tracekeeper.types import LMError, LMTimeoutError, Usage

_BOUNDS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


class Source(msgspec.Struct, frozen=True, eq=False):
    """A model behind its adapter. ``name`` as it was given, ``model`` as the provider calls it."""

    name: str
    model: str
    adapter: Adapter
    timeouts: Timeouts
    retry: Retry
    limiter: Limiter | None
    options: dict[str, Any]
    price: Price | None = None
    """As the program gave it; ``None``: as the table says."""

    def prepare(self, prompt: Prompt) -> dict[str, Any]:
        """What is sent. In the caller's thread: what cannot be is said there."""
        self.adapter.prepare()
        return self.adapter.options(msgspec.structs.replace(prompt, options={**self.options, **prompt.options}))

    async def place(self, prompt: Prompt) -> Place | None:
        """A place at the provider, within the request's own deadline."""
        if self.limiter is None:
            return None
        tokens = 0.0
        if self.limiter.counts_tokens:
            options = {**self.options, **prompt.options}
            bounds = [options[name] for name in _BOUNDS if isinstance(options.get(name), int)]
            tokens = estimate(prompt.text()) + (bounds[0] if bounds else 0)
        try:
            return await self.limiter.atake(tokens, self.timeouts.total)
        except TimeoutError as error:
            raise LMTimeoutError(f"{self.name}: {error}", model=self.name, phase="place") from None

    def usage(self, told: Told) -> Usage | None:
        """What an answer took, with its cost where that is known."""
        usage = read_usage(told.usage)
        return usage if usage is None else priced(usage, self.price or price_of(self.name, told.model))

    def failed(self, error: BaseException) -> LMError:
        """What is raised in the place of an error of the provider's client."""
        if isinstance(error, LMError):
            return error
        if isinstance(error, TimeoutError) or _timed_out(error):
            phase = "connect" if any("ConnectTimeout" in type(one).__name__ for one in _causes(error)) else "total"
            what = "no connection within" if phase == "connect" else "no answer within"
            seconds = getattr(self.timeouts, phase)
            return LMTimeoutError(f"{self.name}: {what} {seconds:g} s", model=self.name, phase=phase)
        said = str(error) or type(error).__name__
        return LMError(f"{self.name}: {said}", model=self.name, status_code=getattr(error, "status_code", None))


def give_back(place: Place | None, error: BaseException | None = None, usage: Usage | None = None) -> None:
    """Give a place back and say how the call went."""
    if place is None:
        return
    if error is None:
        if usage is not None and usage.total_tokens is not None:
            place.used(usage.total_tokens)
        place.release()
    elif isinstance(error, Exception) and verdict(error) is Verdict.TOO_MUCH:
        place.too_much(retry_after(error))
    else:
        place.release(answered=False)


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _timed_out(error: BaseException) -> bool:
    return any("Timeout" in kind.__name__ for kind in type(error).__mro__)
