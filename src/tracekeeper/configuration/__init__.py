"""Settings as immutable snapshots: one process-wide base, and overrides that follow the context."""

from tracekeeper.configuration.settings import Settings, configure, context, reset, settings

__all__ = ["Settings", "configure", "context", "reset", "settings"]
