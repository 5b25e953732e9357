"""Apps, recordings and the engine that settles scores."""

from tracekeeper.scoring.app import App, app
from tracekeeper.scoring.log_record import log_record
from tracekeeper.scoring.record import Record
from tracekeeper.scoring.recording import Recording, recording

__all__ = ["App", "Record", "Recording", "app", "log_record", "recording"]
