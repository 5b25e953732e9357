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
    from tracekeeper.concurrency import Outcome
    from tracekeeper.concurrency.bridges import asyncify, run_sync, syncify
    from tracekeeper.concurrency.maps import Parallel, aparallel_map, parallel_map
    from tracekeeper.concurrency.pools import ThreadPoolExecutor
    from tracekeeper.configuration import Settings, configure, context, settings
    from tracekeeper.evaluation.datasets.dataset import Dataset
    from tracekeeper.evaluation.evaluate import aevaluate, evaluate
    from tracekeeper.evaluation.experiment import Experiment
    from tracekeeper.evaluation.item import Item
    from tracekeeper.evaluation.resuming import arerun_failures, aresume, rerun_failures, resume
    from tracekeeper.integrations import Instrumented, instrument, instrumented, uninstrument
    from tracekeeper.judging import Metric, metric, select
    from tracekeeper.lm import LM, Answer, Chunk, Timeouts, ToolCall
    from tracekeeper.lm.prices import Price, set_price
    from tracekeeper.reading import Table, flush, leaderboard, records, records_and_scores, score, shutdown
    from tracekeeper.reading.alerts import alerts
    from tracekeeper.reading.rescoring import Rescored, rescore
    from tracekeeper.reading.rule_list import rules
    from tracekeeper.scoring.alerts.alert import Alert, alert
    from tracekeeper.scoring.app import App, app
    from tracekeeper.scoring.completed import as_completed
    from tracekeeper.scoring.guards.namespace import guard
    from tracekeeper.scoring.log_record import log_record
    from tracekeeper.scoring.record import Record
    from tracekeeper.scoring.recording import Recording, recording
    from tracekeeper.scoring.rules.rule import Rule, rule
    from tracekeeper.scoring.watching import on_error, on_score
    from tracekeeper.tracing import Span, current_span, propagate, span, trace
    from tracekeeper.tracing.tracking import UsageTotal, track_usage
    from tracekeeper.types import (
        Blocked,
        ConfigurationError,
        DatasetError,
        ExperimentError,
        FilterError,
        ImportFileError,
        ItemsFailedError,
        JournalError,
        LMError,
        LMTimeoutError,
        MetricError,
        MetricMode,
        MissingExtraError,
        OutputError,
        PromptError,
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
        WorkerLostError,
    )

_HOMES = {
    "tracekeeper.concurrency": ("Outcome",),
    "tracekeeper.concurrency.bridges": ("asyncify", "run_sync", "syncify"),
    "tracekeeper.concurrency.maps": ("Parallel", "aparallel_map", "parallel_map"),
    "tracekeeper.concurrency.pools": ("ThreadPoolExecutor",),
    "tracekeeper.configuration": ("Settings", "configure", "context", "settings"),
    "tracekeeper.evaluation.datasets.dataset": ("Dataset",),
    "tracekeeper.evaluation.item": ("Item",),
    "tracekeeper.evaluation.evaluate": ("aevaluate", "evaluate"),
    "tracekeeper.evaluation.resuming": ("arerun_failures", "aresume", "rerun_failures", "resume"),
    "tracekeeper.evaluation.experiment": ("Experiment",),
    "tracekeeper.integrations": ("Instrumented", "instrument", "instrumented", "uninstrument"),
    "tracekeeper.judging": ("Metric", "metric", "select"),
    "tracekeeper.lm": ("LM", "Answer", "Chunk", "Timeouts", "ToolCall"),
    "tracekeeper.lm.prices": ("Price", "set_price"),
    "tracekeeper.reading": ("Table", "flush", "leaderboard", "records", "records_and_scores", "score", "shutdown"),
    "tracekeeper.scoring.app": ("App", "app"),
    "tracekeeper.scoring.completed": ("as_completed",),
    "tracekeeper.scoring.guards.namespace": ("guard",),
    "tracekeeper.scoring.log_record": ("log_record",),
    "tracekeeper.scoring.record": ("Record",),
    "tracekeeper.scoring.recording": ("Recording", "recording"),
    "tracekeeper.scoring.watching": ("on_error", "on_score"),
    "tracekeeper.reading.alerts": ("alerts",),
    "tracekeeper.reading.rescoring": ("Rescored", "rescore"),
    "tracekeeper.scoring.alerts.alert": ("Alert", "alert"),
    "tracekeeper.reading.rule_list": ("rules",),
    "tracekeeper.scoring.rules.rule": ("Rule", "rule"),
    "tracekeeper.tracing.tracking": ("UsageTotal", "track_usage"),
    "tracekeeper.tracing": ("Span", "current_span", "span", "trace"),
    "tracekeeper.types": (
        "Blocked",
        "ConfigurationError",
        "DatasetError",
        "ExperimentError",
        "FilterError",
        "ImportFileError",
        "ItemsFailedError",
        "JournalError",
        "LMError",
        "LMTimeoutError",
        "MetricError",
        "MetricMode",
        "MissingExtraError",
        "OutputError",
        "PromptError",
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
        "WorkerLostError",
    ),
}
_MODULES = {
    "metrics": "tracekeeper.metrics",
    "propagate": "tracekeeper.tracing.propagate",
    "testing": "tracekeeper.testing",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "LM",
    "Alert",
    "Answer",
    "App",
    "Blocked",
    "Chunk",
    "ConfigurationError",
    "Dataset",
    "DatasetError",
    "Experiment",
    "ExperimentError",
    "FilterError",
    "ImportFileError",
    "Instrumented",
    "Item",
    "ItemsFailedError",
    "JournalError",
    "LMError",
    "LMTimeoutError",
    "Metric",
    "MetricError",
    "MetricMode",
    "MissingExtraError",
    "Outcome",
    "OutputError",
    "Parallel",
    "Price",
    "PromptError",
    "Receipt",
    "Record",
    "Recording",
    "RecordingError",
    "Rescored",
    "Rule",
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
    "ThreadPoolExecutor",
    "Timeouts",
    "ToolCall",
    "TracekeeperError",
    "TracekeeperWarning",
    "Usage",
    "UsageTotal",
    "WorkerLostError",
    "aevaluate",
    "alert",
    "alerts",
    "aparallel_map",
    "app",
    "arerun_failures",
    "aresume",
    "as_completed",
    "asyncify",
    "configure",
    "context",
    "current_span",
    "evaluate",
    "flush",
    "guard",
    "instrument",
    "instrumented",
    "leaderboard",
    "log_record",
    "metric",
    "metrics",
    "on_error",
    "on_score",
    "parallel_map",
    "propagate",
    "recording",
    "records",
    "records_and_scores",
    "rerun_failures",
    "rescore",
    "resume",
    "rule",
    "rules",
    "run_sync",
    "score",
    "select",
    "set_price",
    "settings",
    "shutdown",
    "span",
    "syncify",
    "testing",
    "trace",
    "track_usage",
    "uninstrument",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is not None:
        value = getattr(importlib.import_module(home), name)
    elif name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    else:
        import difflib

        near = difflib.get_close_matches(name, __all__, n=1)
        hint = f"; did you mean tk.{near[0]}?" if near else ""
        raise AttributeError(f"module 'tracekeeper' has no attribute {name!r}{hint}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
