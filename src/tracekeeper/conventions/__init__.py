"""What others call the things that we name: wire formats of providers, and attribute conventions of instrumentation.

``reading.normalised`` reads a third party's span, ``export.exported`` writes ours in OpenTelemetry's newest names: both
pure, and driven by the data in :mod:`~tracekeeper.conventions.table`. The other modules read what providers send.
Nothing is imported here: a traced call needs little of this room.
"""
