"""Tracekeeper traces and evaluates LLM applications.

Nothing hangs. Nothing is lost. Every score has a state. Start with :func:`tracekeeper.trace`, :func:`tracekeeper.app`
and :func:`tracekeeper.recording`.

This module imports nothing until a name is used: ``import tracekeeper`` must cost the program next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tracekeeper import metrics, testing
    from tracekeeper.configuration import Settings, configure, context, settings
    from tracekeeper.judging import Metric, metric, select
    from tracekeeper.reading import Table, flush, leaderboard, records, records_and_scores, score, shutdown
    from tracekeeper.scoring import App, Record, Recording, app, log_record, recording
    from tracekeeper.tracing import Span, current_span, span, trace
    from tracekeeper.types import (
        ConfigurationError,
        FilterError,
        ImportFileError,
        JournalError,
        MetricError,
        MetricMode,
        MissingExtraError,
        Receipt,
        RecordingError,
        Score,
        ScoreError,
        ScoreSource,
        ScoreStatus,
        SpanKind,
        SpanStatus,
        StoreError,
        TracekeeperError,
        TracekeeperWarning,
        Usage,
    )

_HOMES = {
    "tracekeeper.configuration": ("Settings", "configure", "context", "settings"),
    "tracekeeper.judging": ("Metric", "metric", "select"),
    "tracekeeper.reading": ("Table", "flush", "leaderboard", "records", "records_and_scores", "score", "shutdown"),
    "tracekeeper.scoring": ("App", "Record", "Recording", "app", "log_record", "recording"),
    "tracekeeper.tracing": ("Span", "current_span", "span", "trace"),
    "tracekeeper.types": (
        "ConfigurationError",
        "FilterError",
        "ImportFileError",
        "JournalError",
        "MetricError",
        "MetricMode",
        "MissingExtraError",
        "Receipt",
        "RecordingError",
        "Score",
        "ScoreError",
        "ScoreSource",
        "ScoreStatus",
        "SpanKind",
        "SpanStatus",
        "StoreError",
        "TracekeeperError",
        "TracekeeperWarning",
        "Usage",
    ),
}
_ROOMS = ("metrics", "testing")
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "App",
    "ConfigurationError",
    "FilterError",
    "ImportFileError",
    "JournalError",
    "Metric",
    "MetricError",
    "MetricMode",
    "MissingExtraError",
    "Receipt",
    "Record",
    "Recording",
    "RecordingError",
    "Score",
    "ScoreError",
    "ScoreSource",
    "ScoreStatus",
    "Settings",
    "Span",
    "SpanKind",
    "SpanStatus",
    "StoreError",
    "Table",
    "TracekeeperError",
    "TracekeeperWarning",
    "Usage",
    "app",
    "configure",
    "context",
    "current_span",
    "flush",
    "leaderboard",
    "log_record",
    "metric",
    "metrics",
    "recording",
    "records",
    "records_and_scores",
    "score",
    "select",
    "settings",
    "shutdown",
    "span",
    "testing",
    "trace",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is not None:
        value = getattr(importlib.import_module(home), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"tracekeeper.{name}")
    else:
        import difflib

        near = difflib.get_close_matches(name, __all__, n=1)
        hint = f"; did you mean tk.{near[0]}?" if near else ""
        raise AttributeError(f"module 'tracekeeper' has no attribute {name!r}{hint}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
