"""What tokens cost: dated data that a program may replace. A price that nobody told is unknown, never 0."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from tracekeeper.types import ConfigurationError, Usage

_MILLION = 1_000_000
_DATED = re.compile(r"-(20\d\d-\d\d-\d\d|20\d{6}|latest)$")


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars for a million tokens.

    Parameters
    ----------
    input, output:
        Tokens read and written.
    cache_read, cache_write:
        Of those read, the ones from and into the provider's cache; ``None``: unknown, and so is the cost of a call with
        such tokens.
    up_to:
        Tokens read up to which the price holds: providers charge more for longer ones. ``None``: any number.

    Example
    -------
    >>> Price(input=0.5, output=2.0).of(Usage(input_tokens=1000, output_tokens=500))
    0.0015
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    up_to: int | None = None

    def of(self, usage: Usage) -> float | None:
        """What a call cost; ``None`` where a part of it is unknown."""
        read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
        if usage.input_tokens is None or usage.output_tokens is None or usage.estimated:
            return None
        if self.up_to is not None and usage.input_tokens > self.up_to:
            return None
        if (read and self.cache_read is None) or (written and self.cache_write is None):
            return None
        plain = max(0, usage.input_tokens - read - written)
        dollars = plain * self.input + usage.output_tokens * self.output
        dollars += read * (self.cache_read or 0.0) + written * (self.cache_write or 0.0)
        return dollars / _MILLION


class Prices(msgspec.Struct, frozen=True):
    """The table that comes along: its month, where the numbers are from, and they."""

    date: str
    source: str
    models: dict[str, Price]


@cache
def table() -> Prices:
    """The prices that come along.

    Example
    -------
    >>> table().models["openai/gpt-4.1-mini"].input, table().date
    (0.4, '2026-11')
    """
    return msgspec.json.decode(resources.files("tracekeeper.lm").joinpath("prices.json").read_bytes(), type=Prices)


_own: dict[str, Price] = {}


def set_price(
    model: str,
    *,
    input: float,
    output: float,
    cache_read: float | None = None,
    cache_write: float | None = None,
) -> None:
    """Say what a model costs, in US dollars for a million tokens; it holds before the table that comes along.

    Example
    -------
    >>> set_price("vllm/my-model", input=0.1, output=0.1)
    >>> price_of("vllm/my-model").output
    0.1
    """
    _own[model] = price_from(
        {"input": input, "output": output, "cache_read": cache_read, "cache_write": cache_write}, f"price of {model}"
    )


def price_from(given: Any, what: str = "price") -> Price:
    """A price as it may be given: a ``Price``, or a mapping with its names.

    Raises
    ------
    ConfigurationError
        A name or a number that cannot be one.
    """
    if isinstance(given, Price):
        return given
    unknown = {*given} - {*Price.__struct_fields__} if isinstance(given, Mapping) else {"…"}
    if unknown or not {"input", "output"} <= {*given}:
        raise ConfigurationError(f"{what}={given!r}: expected input= and output= in US dollars for a million tokens")
    for name, value in given.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
            raise ConfigurationError(f"{what}: {name}={value!r} is no amount of money")
    return Price(**given)


def price_of(asked: str, answered: str | None = None) -> Price | None:
    """The price of a model as it was asked, or else as its provider calls what answered; ``None``: unknown.

    Example
    -------
    >>> price_of("openai/gpt-4.1-mini-2025-04-14") == price_of("openai/gpt-4.1-mini")
    True
    >>> price_of("ollama/llama3.3") is None
    True
    """
    prefix = asked.partition("/")[0]
    names = [asked] if answered is None else [asked, f"{prefix}/{answered}"]
    for name in (*names, *(_DATED.sub("", name) for name in names)):
        name = name.removeprefix("litellm/")
        found = _own.get(name) or table().models.get(name)
        if found is not None:
            return found
    return None


def priced(usage: Usage | None, price: Price | None) -> Usage | None:
    """Usage with its cost, where that is known and the provider did not say it."""
    if usage is None or usage.cost is not None or price is None:
        return usage
    cost = price.of(usage)
    return usage if cost is None else msgspec.structs.replace(usage, cost=cost)
