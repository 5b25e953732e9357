"""Guards: metrics that decide, before a call or after it, whether it may go on. Public as ``tk.guard``."""

from tracekeeper.scoring.guards.namespace import Guards, guard

__all__ = ["Guards", "guard"]
