"""Tokens and money of a model call."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a model call consumed, as the provider reported it.

    ``None`` means *not reported*; it is never replaced by a zero. Cache and reasoning tokens are *included* in
    ``input_tokens`` and ``output_tokens`` (OpenTelemetry GenAI semantic conventions), so they are not added.

    Parameters
    ----------
    input_tokens, output_tokens:
        Tokens read and written.
    cache_read_tokens, cache_write_tokens, reasoning_tokens:
        Parts of the above.
    cost:
        Money, in US dollars.
    estimated:
        Whether the tokens were counted by us rather than reported.

    Example
    -------
    >>> Usage(input_tokens=7, output_tokens=3).total_tokens
    10
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None
    estimated: bool = False

    @property
    def total_tokens(self) -> int | None:
        """Input and output together; ``None`` when neither was reported."""
        if self.input_tokens is None and self.output_tokens is None:
            return None
        return (self.input_tokens or 0) + (self.output_tokens or 0)
