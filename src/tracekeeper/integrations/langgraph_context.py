"""LangGraph: its runs are LangChain's; what is its own is the context in which a node's code runs."""

from __future__ import annotations

from collections.abc import Callable

from tracekeeper.integrations.langchain_callbacks import enters
from tracekeeper.integrations.patching import Patches


def install() -> Callable[[], None]:
    """Make a node's span current in the node's code; returns what puts everything back."""
    patches = Patches()
    patches.wrap("langgraph._internal._runnable", "_set_config_context", enters)
    return patches.undo
