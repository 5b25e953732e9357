"""Apps, recordings and the engine that settles scores."""

from tracekeeper.scoring.app import App, app
from tracekeeper.scoring.completed import Completed, as_completed
from tracekeeper.scoring.guards import guard
from tracekeeper.scoring.log_record import log_record
from tracekeeper.scoring.record import Record
from tracekeeper.scoring.recording import Recording, recording
from tracekeeper.scoring.watching import Subscription, on_error, on_score

__all__ = [
    "App",
    "Completed",
    "Record",
    "Recording",
    "Subscription",
    "app",
    "as_completed",
    "guard",
    "log_record",
    "on_error",
    "on_score",
    "recording",
]
