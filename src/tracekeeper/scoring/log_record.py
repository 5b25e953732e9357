"""``tk.log_record``: a record of a call that was made elsewhere (another program, an import, a batch job).

It goes the same way as a traced call, start frame, decision of the metrics, end frame, so nothing downstream can tell
the two apart.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tracekeeper.configuration import Settings
from tracekeeper.configuration.settings import check
from tracekeeper.journal.frames import ErrorInfo, SpanEnd, SpanStart
from tracekeeper.judging import Metric, as_metrics
from tracekeeper.scoring.app import App
from tracekeeper.scoring.record import Record
from tracekeeper.tracing import capture, documents, failures, ids, recordings, runtime
from tracekeeper.tracing import usage as usages
from tracekeeper.tracing.evaluation import current_evaluation
from tracekeeper.tracing.opening import enabled
from tracekeeper.tracing.state import RecordState
from tracekeeper.types import ConfigurationError, SpanKind, SpanStatus


def log_record(
    *,
    input: Any = None,
    output: Any = None,
    context: Any = None,
    expected: Any = None,
    app: App[..., Any] | str | None = None,
    version: str | None = None,
    metrics: Sequence[Metric | Callable[..., Any]] = (),
    name: str | None = None,
    started: datetime | float | None = None,
    duration: float = 0.0,
    session_id: str | None = None,
    user_id: str | None = None,
    tags: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    usage: Any = None,
    model: str | None = None,
    error: BaseException | str | None = None,
) -> Record:
    """Make a record of a call that was made elsewhere, and have it scored. On disk when it returns.

    Parameters
    ----------
    input:
        What was asked: a mapping of arguments by name, or one value.
    output:
        What was answered.
    context:
        Documents that were retrieved: a list of texts or of objects with ``content``, or one text.
    expected:
        What should have been answered.
    app:
        An app (its metrics judge the record), or the name of one.
    version:
        Version of the app when ``app`` is a name.
    metrics:
        Metrics that judge the record when ``app`` is a name or not given.
    name:
        Name of the call; default: that of the app.
    started:
        When the call began: an aware ``datetime``, or seconds since the Unix epoch. Default: ``duration`` ago.
    duration:
        How long it took, in seconds.
    session_id, user_id, tags, metadata:
        As in ``tk.context``, over what is in force there.
    usage, model:
        Tokens and cost, in any shape that ``span.set(usage=…)`` takes, and the model's name.
    error:
        The exception (or its message) that ended the call.

    Raises
    ------
    ConfigurationError
        A negative duration, a value that cannot work, or ``version`` or ``metrics`` beside an app that has its own.
    MetricError
        A metric that can never be computed.

    Example
    -------
    >>> record = log_record(input="capital of France?", output="Paris", expected="Paris", app="quiz", version="1")
    >>> record.input, record.output, record.status
    ({'input': 'capital of France?'}, 'Paris', 'ok')
    """
    link = _link(app, version, metrics, name)
    began, ended = _times(started, duration)
    own = {"session_id": session_id, "user_id": user_id, "tags": tags, "metadata": metadata}
    over = check({key: value for key, value in own.items() if value is not None})
    current = enabled()
    if current is None:
        return Record.inert()
    keeper = runtime.keeper()
    inputs = input if isinstance(input, Mapping) else {} if input is None else {"input": input}
    encoded_input, input_size = _encoded(inputs, current)
    span_id = ids.span_id()
    start = SpanStart(
        trace_id=ids.trace_id(),
        span_id=span_id,
        parent_id=None,
        record_id=span_id,
        name=capture.text(str(name)) if name else link.name if link is not None else "record",
        kind=SpanKind.CHAIN.value,
        started=began,
        app=None if link is None else link.name,
        app_version=None if link is None else link.version,
        project=current.project,
        session_id=over.get("session_id", current.session_id),
        user_id=over.get("user_id", current.user_id),
        environment=current.environment,
        release=current.release,
        tags=(*current.tags, *(tag for tag in over.get("tags", ()) if tag not in current.tags)),
        input=encoded_input,
        input_size=input_size,
    )
    state = RecordState(trace_id=start.trace_id, span_id=span_id, keeper=keeper, app=link, start=start, inline=True)
    for sink in recordings.active.get():
        sink.begun(state)
    if link is not None:
        for definition in link.definitions():
            keeper.define(definition)
        if link.needs_live:
            state.live_input, state.live_output = inputs, output
        if link.needs_spans:
            state.spans = []
    keeper.write(start)
    state.end = _end(state, current, ended, output, context, expected, metadata, usage, model, error)
    record = Record.of(state)
    if link is None:
        keeper.write(state.end)
        record.closed()
        return record
    # Inside an evaluation the record is kept, and not judged: a metric that logs what it judges would have no end.
    state.end.scores = link.decide(state) if current_evaluation() is None else link.decline(state)
    keeper.write(state.end)
    link.ended(state)
    if link.has_inline:
        link.settle_inline(state)
    return record


def _end(
    state: RecordState,
    current: Settings,
    ended: int,
    output: Any,
    context: Any,
    expected: Any,
    metadata: Mapping[str, Any] | None,
    usage: Any,
    model: str | None,
    error: BaseException | str | None,
) -> SpanEnd:
    encoded_output, output_size = (None, 0) if output is None else _encoded(output, current)
    merged = {**(current.metadata or {}), **(metadata or {})}
    found = documents.found_in(context) if context is not None else None
    if found is None and context is not None:
        found = list(context) if isinstance(context, list | tuple | set) else [context]
    encoded_context = None if found is None else _encoded(found, current)[0]
    if encoded_context is not None:
        state.documents.append(encoded_context)
    read = usages.read(usage)
    state.has_usage = read is not None
    return SpanEnd(
        trace_id=state.trace_id,
        span_id=state.span_id,
        record_id=state.span_id,
        ended=ended,
        status=_status(error),
        output=encoded_output,
        output_size=output_size,
        error=_error(error),
        usage=read,
        model=None if model is None else capture.text(str(model)),
        context=encoded_context,
        expected=None if expected is None else _encoded(expected, current)[0],
        metadata=_encoded(merged, current)[0] if merged else None,
    )


def _encoded(value: Any, current: Settings) -> tuple[bytes, int]:
    return capture.encode(value, limit=current.capture_limit, mask_keys=current.mask_keys, mask=current.mask)


def _status(error: BaseException | str | None) -> str:
    if error is None:
        return SpanStatus.OK.value
    return SpanStatus.ERROR.value if isinstance(error, str) else failures.status_of(error).value


def _error(error: BaseException | str | None) -> ErrorInfo | None:
    if error is None:
        return None
    return ErrorInfo(type="Error", message=capture.text(error)) if isinstance(error, str) else failures.info(error)


def _times(started: datetime | float | None, duration: float) -> tuple[int, int]:
    """Begin and end in nanoseconds."""
    number = isinstance(duration, int | float) and not isinstance(duration, bool) and math.isfinite(duration)
    if not number or duration < 0:
        raise ConfigurationError(f"duration={duration!r}: expected seconds, 0 or more")
    length = round(duration * 1e9)
    if started is None:
        now = time.time_ns()
        return now - length, now
    if isinstance(started, datetime):
        if started.tzinfo is None:
            raise ConfigurationError(f"started={started!r}: expected a time with a zone, e.g. datetime.now(UTC)")
        began = round(started.timestamp() * 1e9)
    elif isinstance(started, int | float) and not isinstance(started, bool) and 0 <= started < 1e11:
        began = round(started * 1e9)
    else:
        raise ConfigurationError(f"started={started!r}: expected a datetime, or seconds since the Unix epoch")
    return began, began + length


def _link(
    app: App[..., Any] | str | None,
    version: str | None,
    metrics: Sequence[Metric | Callable[..., Any]],
    name: str | None,
) -> App[..., Any] | None:
    known = getattr(app, "app", app)  # a function made with @tk.app carries its App
    if isinstance(known, App):
        if version is not None or metrics:
            raise ConfigurationError(
                f"app {known.name!r} has its own version and metrics; version= and metrics= go with a name"
            )
        return known
    if known is not None and not isinstance(known, str):
        raise ConfigurationError(f"app={app!r}: expected an app or its name")
    if known is None and version is None and not metrics:
        return None
    return _app_made_elsewhere(known or name or "logged", str(version or "1"), as_metrics(metrics))


@functools.lru_cache(maxsize=256)
def _app_made_elsewhere(name: str, version: str, metrics: tuple[Metric, ...]) -> App[..., Any]:
    """One app for all records that are logged with the same name, version and metrics."""

    def elsewhere(**arguments: Any) -> Any:
        raise ConfigurationError(f"app {name!r} was called elsewhere; here its calls are only logged")

    return App(elsewhere, name=name, version=version, metrics=metrics)
