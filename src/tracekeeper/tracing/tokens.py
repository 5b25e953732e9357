"""An estimate of tokens where a provider reports none, marked as one. A plausible zero would be worse than no value.

Rule of thumb, as OpenAI gives it for English ("What are tokens and how to count them?"): a token is about four
characters. Letters outside ASCII are counted as a token each, which is about right for Chinese, Japanese and Korean and
too much for accented Latin text. A message costs about four tokens more (OpenAI's cookbook on counting tokens).
"""

from __future__ import annotations

from typing import Any

import msgspec

from tracekeeper.tracing import capture
from tracekeeper.types import Usage

_TEXTS = frozenset({"content", "text", "input", "prompt", "arguments", "output", "system", "instructions"})
_PER_MESSAGE = 4


def estimate(text: str) -> int:
    """Tokens of a text, roughly.

    Example
    -------
    >>> estimate("The weather is mild."), estimate("天气温和"), estimate("")
    (5, 4, 0)
    """
    other = 0 if text.isascii() else sum(1 for letter in text if ord(letter) > 127)
    return other + -(-(len(text) - other) // 4)


def completed(reported: Usage | None, captured: bytes | None, text: str, scale: float = 1.0) -> Usage | None:
    """Usage as reported; where the output's tokens are not in it, with an estimate that is marked as one.

    Parameters
    ----------
    captured:
        The call's input as it was captured: JSON text.
    text:
        What came of the output, or as much of it as is kept.
    scale:
        How many times as long all of it was.
    """
    if (reported is not None and reported.output_tokens is not None) or not text:
        return reported
    output = max(1, round(estimate(text) * scale))
    if reported is None:
        return Usage(input_tokens=_of_input(captured), output_tokens=output, estimated=True)
    return msgspec.structs.replace(reported, output_tokens=output, estimated=True)


def _of_input(captured: bytes | None) -> int | None:
    if captured is None:
        return None
    found = _in(capture.decode(captured), said=True)
    return found or None


def _in(value: Any, *, said: bool) -> int:
    if isinstance(value, str):
        return estimate(value) if said else 0
    if isinstance(value, list):
        return sum(_in(item, said=said) for item in value)
    if isinstance(value, dict):
        message = _PER_MESSAGE if "role" in value else 0
        return message + sum(
            _in(item, said=key in _TEXTS or isinstance(item, dict | list)) for key, item in value.items()
        )
    return 0
