"""``tk.propagate``: a trace goes on in another service, over HTTP headers or the headers of a message.

``inject`` writes where we are into a carrier, ``extract`` reads that on the other side: W3C Trace Context
(``traceparent``, ``tracestate``) and W3C Baggage, in the classes of opentelemetry-api, and beside them whatever
propagator the program configured for OpenTelemetry (``OTEL_PROPAGATORS``, ``set_global_textmap``).

The caller's span becomes the parent. What is called below it is a record of its own nevertheless, since its parent is
not of this process, and it is kept when the caller's was: one draw for the whole trace.

Nothing here raises into the program: a header that does not parse is as if it were not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, overload

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tracekeeper.tracing import opening, trouble
from tracekeeper.tracing.context import KEY, OWN_KEY, VAR, leave

__all__ = ["Extracted", "extract", "inject"]

_W3C = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
_W3C_FIELDS = frozenset({"traceparent", "tracestate", "baggage"})


@overload
def inject(carrier: None = None) -> dict[str, str]: ...
@overload
def inject(carrier: MutableMapping[str, Any]) -> MutableMapping[str, Any]: ...
def inject(carrier: MutableMapping[str, Any] | None = None) -> MutableMapping[str, Any]:
    """Write the current span's place, and the baggage, into a carrier: headers of a request, of a message, of a job.

    Parameters
    ----------
    carrier:
        Any mutable mapping of text to text, changed in place; ``None``: a new dict.

    Returns
    -------
    MutableMapping
        The carrier. Without a current span nothing is added, nor when tracing is switched off.

    Example
    -------
    >>> import tracekeeper as tk
    >>> with tk.span("ask the other service") as span:
    ...     headers = tk.propagate.inject({"accept": "application/json"})
    >>> headers["traceparent"] == f"00-{span.trace_id}-{span.span_id}-01"
    True
    """
    target: MutableMapping[str, Any] = {} if carrier is None else carrier
    try:
        if opening.enabled() is None:
            return target
        here = VAR.get()
        # Into a dict first: a carrier that adds instead of replacing (an e-mail message) must get each name once.
        said: dict[str, str] = {}
        configured = _configured()
        if configured is not None:
            configured.inject(said, here)
        _W3C.inject(said, here)
        for name, value in said.items():
            target[name] = value
    except Exception as error:  # noqa: BLE001
        trouble.note("writing the current span into a carrier", error)
    return target


def extract(carrier: Mapping[str, Any] | Iterable[tuple[Any, Any]] | None) -> Extracted:
    """What a caller wrote into its request or message; inside ``with`` it is the parent of what is called.

    Parameters
    ----------
    carrier:
        A mapping, or pairs as ASGI servers and message queues have them; names in any case, values as text or bytes.
        Without a valid ``traceparent`` the spans inside have the parent that they would have had anyway.

    Returns
    -------
    Extracted
        For ``with`` and ``async with``; may be entered by several threads and tasks, each for itself.

    Example
    -------
    >>> import tracekeeper as tk
    >>> message = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    >>> with tk.propagate.extract(message), tk.span("handle") as span:
    ...     (span.trace_id, span.is_record)
    ('0af7651916cd43dd8448eb211c80319c', True)
    """
    try:
        return Extracted(_headers(carrier))
    except Exception as error:  # noqa: BLE001
        trouble.note("reading the headers of a carrier", error)
        return Extracted({})


class Extracted:
    """A caller's place in its trace, as it came with a request or a message. Made by ``extract``."""

    __slots__ = ("_entered", "_headers")

    def __init__(self, headers: dict[str, list[str]]) -> None:
        self._headers = headers
        self._entered: list[tuple[Any, Context]] = []

    def __enter__(self) -> Extracted:
        try:
            if self._headers and opening.enabled() is not None:
                entered = _below_caller(self._headers, VAR.get())
                self._entered.append((VAR.set(entered), entered))
        except Exception as error:  # noqa: BLE001
            trouble.note("going on with a caller's trace", error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Entered by several tasks at once, the last one may be another task's: find the one that is in force here.
        here = VAR.get()
        held = self._entered
        for position in range(len(held) - 1, -1, -1):
            if held[position][1] is here:
                leave(*held.pop(position))
                return
        if held:
            leave(*held.pop())

    async def __aenter__(self) -> Extracted:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


class _Headers(Getter[Mapping[str, list[str]]]):
    """Names as each propagator spells them; ours are in lower case."""

    def get(self, carrier: Mapping[str, list[str]], key: str) -> list[str] | None:
        return carrier.get(key.lower())

    def keys(self, carrier: Mapping[str, list[str]]) -> list[str]:
        return list(carrier)


_getter = _Headers()


def _below_caller(headers: dict[str, list[str]], around: Mapping[str, Any]) -> Context:
    """The context ``around`` with the caller's span in the place of the current one, and its baggage added."""
    alone = Context({key: value for key, value in around.items() if key not in (KEY, OWN_KEY)})
    found = _W3C.extract(headers, alone, _getter)
    if not _is_valid(found.get(KEY)):
        configured = _configured()
        if configured is not None:
            found = configured.extract(headers, found, _getter)
    if _is_valid(found.get(KEY)):
        return found
    kept = {key: around[key] for key in (KEY, OWN_KEY) if key in around}
    return Context({**found, **kept})


def _is_valid(span: Any) -> bool:
    return isinstance(span, OtelSpan) and span.get_span_context().is_valid


def _headers(carrier: Any) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    pairs = carrier.items() if isinstance(carrier, Mapping) or hasattr(carrier, "items") else carrier or ()
    for name, value in pairs:
        values = value if isinstance(value, list | tuple) else (value,)
        texts = [text for each in values if (text := _text(each)) is not None]
        if texts and (key := _text(name)) is not None:
            headers.setdefault(key.lower(), []).extend(texts)
    return headers


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return bytes(value).decode("latin-1") if isinstance(value, bytes | bytearray | memoryview) else None


_loaded: list[Any] = []


def _configured() -> TextMapPropagator | None:
    """The program's own propagator, when it says more than W3C's."""
    if not _loaded:
        try:
            from opentelemetry.propagate import get_global_textmap

            _loaded.append(get_global_textmap)
        except Exception as error:  # noqa: BLE001  OTEL_PROPAGATORS names one that is not installed
            trouble.note("loading the propagators that OTEL_PROPAGATORS names", error)
            _loaded.append(lambda: None)
    found: TextMapPropagator | None = _loaded[0]()
    return None if found is None or found.fields <= _W3C_FIELDS else found
