"""Language models: one face for every provider, with deadlines, limits, streams, a cache and usage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracekeeper.lm.answer import Answer, Chunk, ToolCall
from tracekeeper.lm.timeouts import Timeouts

if TYPE_CHECKING:
    from tracekeeper.lm.model import LM

__all__ = ["LM", "Answer", "Chunk", "Timeouts", "ToolCall"]


def __getattr__(name: str) -> Any:
    if name == "LM":
        from tracekeeper.lm.model import LM

        return LM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
