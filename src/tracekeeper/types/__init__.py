"""Plain data that every room shares: statuses, scores, usage, receipts, errors. Imports nothing of ours."""

from tracekeeper.types.errors import (
    Blocked,
    ConfigurationError,
    FilterError,
    ImportFileError,
    ItemsFailedError,
    JournalError,
    LMError,
    LMTimeoutError,
    MetricError,
    MissingExtraError,
    OutputError,
    PromptError,
    RecordingError,
    ScoreError,
    StoreError,
    TracekeeperError,
    TracekeeperWarning,
)
from tracekeeper.types.receipt import Copies, Receipt
from tracekeeper.types.score import Score
from tracekeeper.types.statuses import (
    FINAL_SCORE_STATUSES,
    ItemStatus,
    MetricMode,
    ScoreSource,
    ScoreStatus,
    SpanKind,
    SpanStatus,
)
from tracekeeper.types.usage import Usage

__all__ = [
    "FINAL_SCORE_STATUSES",
    "Blocked",
    "ConfigurationError",
    "Copies",
    "FilterError",
    "ImportFileError",
    "ItemStatus",
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
]
