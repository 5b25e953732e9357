"""Stored spans as an OTLP request: protobuf messages made from rows.

Ids are kept, so a trace is one trace in both systems. Times of a span that was interrupted are not known: it ends when
it began, with the status ``error`` and the reason.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tracekeeper.conventions.export import CLIENTS, Outgoing, exported
from tracekeeper.types import SpanStatus, Usage

log = logging.getLogger("tracekeeper")

LARGEST = 4 << 20
"""Bytes of one request, about: collectors take 4 MiB by default (gRPC) or more. One span that is larger goes alone."""

_KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_FAILED = {
    SpanStatus.ERROR: "",
    SpanStatus.INTERRUPTED: "interrupted: its process ended while it was open",
    SpanStatus.TRUNCATED: "truncated: the provider cut the stream short",
}
_SCOPE, _KIND = "otel.scope.name", "otel.span.kind"


class Request(NamedTuple):
    """A request, and how many of the rows it is made of."""

    body: bytes
    rows: int
    failed: int = 0
    """Of these, rows that could not be put in."""


def load() -> None:
    """Import the protobuf messages, which takes a tenth of a second."""
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: F401


def request_of(rows: Sequence[Mapping[str, Any]], version: str, *, limit: int = LARGEST) -> Request:
    """As many of the rows, from the first, as fit in a request; at least one."""
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

    made: list[tuple[Any, Any, Any]] = []
    size = taken = failed = 0
    for row in rows:
        try:
            span, scope = _span(row)
        except Exception:  # one row that nobody expected must not hold back those behind it for ever
            log.exception("a span (row %s) cannot be copied", row["id"])
            taken, failed = taken + 1, failed + 1
            continue
        size += span.ByteSize()
        if made and size > limit:
            break
        taken += 1
        made.append((_resource_key(row), scope, span))
    request = service.ExportTraceServiceRequest()
    resources: dict[Any, Any] = {}
    scopes: dict[Any, Any] = {}
    for key, scope, span in made:
        if key not in resources:
            resources[key] = request.resource_spans.add()
            _put(resources[key].resource.attributes, _resource(key, version))
        if (key, scope) not in scopes:
            held = scopes[key, scope] = resources[key].scope_spans.add()
            held.scope.name = scope or "tracekeeper"
            if not scope:
                held.scope.version = version
        scopes[key, scope].spans.append(span)
    return Request(request.SerializeToString(), taken, failed)


def rejected(body: bytes) -> tuple[int, str]:
    """How many spans an endpoint refused although it took the request, and why (``partial_success``)."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

    try:
        told = service.ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:  # an endpoint that answers in JSON or not at all has taken it all the same
        return 0, ""
    return max(0, told.rejected_spans), told.error_message


def _resource_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["project"], row["environment"], row["release"]


def _resource(key: tuple[Any, ...], version: str) -> dict[str, Any]:
    project, environment, release = key
    return {
        "service.name": project or "tracekeeper",
        "deployment.environment.name": environment,
        "service.version": release,
        "telemetry.distro.name": "tracekeeper",
        "telemetry.distro.version": version,
    }


def _span(row: Mapping[str, Any]) -> tuple[Any, str]:
    from opentelemetry.proto.trace.v1 import trace_pb2

    attributes = _decoded(row["attributes"])
    own = dict(attributes) if isinstance(attributes, Mapping) else {}
    scope, told_kind = own.pop(_SCOPE, None), own.pop(_KIND, None)
    kind = _KINDS.get(told_kind, 0) if isinstance(told_kind, str) else 0
    if not kind:
        kind = _KINDS["client"] if row["kind"] in CLIENTS else _KINDS["internal"]
    started = row["started_at"]
    span = trace_pb2.Span(
        trace_id=_bytes(row["trace_id"], 16),
        span_id=_bytes(row["span_id"], 8),
        parent_span_id=_bytes(row["parent_id"], 8) if row["parent_id"] else b"",
        name=row["name"] or "(unnamed)",
        kind=kind,  # type: ignore[arg-type]
        start_time_unix_nano=_time(started),
        end_time_unix_nano=_time(started + (row["duration"] or 0)),
        flags=1,
    )
    _put(span.attributes, exported(_outgoing(row, own)))
    _events(span, row)
    for link in _list(row["links"]):
        held = span.links.add(trace_id=_bytes(link.get("trace_id"), 16), span_id=_bytes(link.get("span_id"), 8))
        _put(held.attributes, _mapping(link.get("attributes")))
    status = row["status"]
    if status in _FAILED:
        span.status.code = trace_pb2.Status.STATUS_CODE_ERROR
        span.status.message = row["error_message"] or _FAILED[status]
    elif status == SpanStatus.OK:
        span.status.code = trace_pb2.Status.STATUS_CODE_OK
    return span, scope if isinstance(scope, str) else ""


def _outgoing(row: Mapping[str, Any], attributes: dict[str, Any]) -> Outgoing:
    is_record = row["record_span_id"] == row["span_id"]
    tags = _decoded(row["tags"]) if is_record else None
    return Outgoing(
        kind=row["kind"],
        name=row["name"],
        status=row["status"],
        model=row["model"],
        provider=row["provider"],
        usage=_usage(row),
        input=_decoded(row["input"]),
        output=_decoded(row["output"]),
        documents=_decoded(row["context"]),
        attributes=attributes,
        metadata=_mapping(_decoded(row["metadata"])),
        error_type=row["error_type"],
        chunks=row["chunks"],
        first_chunk=row["first_chunk"],
        app=row["app"],
        app_version=row["app_version"],
        session_id=row["session_id"],
        user_id=row["user_id"],
        tags=tuple(map(str, tags)) if isinstance(tags, list) else (),
    )


def _usage(row: Mapping[str, Any]) -> Usage | None:
    told = _mapping(_decoded(row["usage"]))
    known = {name: told[name] for name in Usage.__struct_fields__ if name in told}
    for name in ("input_tokens", "output_tokens", "cost"):
        if row[name] is not None:
            known[name] = row[name]
    return Usage(**known) if known else None


def _events(span: Any, row: Mapping[str, Any]) -> None:
    names = set()
    for event in _list(row["events"]):
        names.add(event.get("name"))
        held = span.events.add(name=str(event.get("name") or ""), time_unix_nano=_time(event.get("at")))
        _put(held.attributes, _mapping(event.get("attributes")))
    if row["error_type"] is not None and "exception" not in names:
        held = span.events.add(name="exception", time_unix_nano=span.end_time_unix_nano)
        said = {
            "exception.type": row["error_type"],
            "exception.message": row["error_message"],
            "exception.stacktrace": row["error_traceback"],
        }
        _put(held.attributes, said)


def _put(target: Any, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        if value is not None and value != "":
            _fill(target.add(key=str(key)).value, value)


def _fill(target: Any, value: Any) -> None:
    if isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, list | tuple):
        for each in value:
            _fill(target.array_value.values.add(), each)
        if not value:
            target.array_value.SetInParent()
    elif isinstance(value, str):
        target.string_value = value
    else:
        target.string_value = _text(value)


def _text(value: Any) -> str:
    return str(value) if isinstance(value, int) else msgspec.json.encode(value).decode()


def _decoded(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:  # it is no JSON (a damaged row): as text it is still worth sending
        return text


def _list(text: str | None) -> Iterable[Mapping[str, Any]]:
    found = _decoded(text)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _bytes(text: Any, length: int) -> bytes:
    try:
        found = bytes.fromhex(text)
    except (TypeError, ValueError):
        return b""
    return found if len(found) == length else b""


def _time(at: Any) -> int:
    return at if isinstance(at, int) and 0 <= at < 1 << 63 else 0


__all__ = ["LARGEST", "Request", "load", "rejected", "request_of"]
