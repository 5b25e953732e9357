"""Clients, frameworks and threads that Tracekeeper traces without a change to their code."""

from __future__ import annotations

from tracekeeper.integrations.registry import Instrumented, instrument, instrumented, uninstrument

__all__ = ["Instrumented", "instrument", "instrumented", "uninstrument"]
