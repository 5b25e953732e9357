"""Amazon Bedrock through boto3: ``converse``, ``converse_stream``, ``invoke_model`` and
``invoke_model_with_response_stream`` of a ``bedrock-runtime`` client.

All of boto3's operations go through one method, so that one is wrapped; other services pass it untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import wrapt

from tracekeeper.conventions import bedrock as convention
from tracekeeper.conventions.asked import request_attributes
from tracekeeper.conventions.told import get, plain_text
from tracekeeper.integrations.calls import Operation, Request, begin, tell
from tracekeeper.integrations.patching import Patches
from tracekeeper.tracing import responses, trouble
from tracekeeper.tracing.spans import Span
from tracekeeper.tracing.wrapping import failed_in, leave_span
from tracekeeper.types import SpanStatus


def install() -> Callable[[], None]:
    """Trace the clients' calls; returns what puts everything back."""
    patches = Patches()
    patches.wrap("botocore.client", "BaseClient._make_api_call", _calling)
    return patches.undo


def _calling(original: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    operation = _operation(instance, args)
    span = None if operation is None else begin(operation, instance, args, kwargs)
    if operation is None or span is None:
        return original(*args, **kwargs)
    try:
        result = original(*args, **kwargs)
    except BaseException as error:
        failed_in(span, error)
        raise
    try:
        leave_span(span)
        _follow(operation, span, result)
    except Exception as error:  # noqa: BLE001
        trouble.note("reading an answer of Bedrock", error)
        span.close(SpanStatus.OK)
    return result


def _operation(client: Any, args: tuple[Any, ...]) -> Operation | None:
    try:
        if client.meta.service_model.service_name != "bedrock-runtime":
            return None
        return _OPERATIONS.get(args[0])
    except Exception as error:  # noqa: BLE001
        trouble.note("looking at a call of boto3", error)
        return None


def _follow(operation: Operation, span: Span, result: dict[str, Any]) -> None:
    """End the span, or follow what the program is about to read."""
    for name in ("stream", "body"):
        if operation.reader is not None and name in result:
            result[name] = responses.traced(span, result[name], operation.reader(result[name]))
            return
    body = result.get("body")
    if body is None:
        tell(span, operation.answer(result))
        span.close(SpanStatus.OK)
    else:
        body._raw_stream = _Read(body._raw_stream, span, operation)


class _Read(wrapt.ObjectProxy):  # type: ignore[type-arg]
    """The bytes of an answer, which the program reads when it likes; the span ends when it has, or throws them away."""

    def __init__(self, raw: Any, span: Span, operation: Operation) -> None:
        super().__init__(raw)
        self._self_span = span
        self._self_operation = operation
        self._self_parts: list[bytes] = []

    def read(self, amt: int | None = None, *args: Any, **kwargs: Any) -> Any:
        try:
            data = self.__wrapped__.read(amt, *args, **kwargs)
        except BaseException as error:
            self._self_span.fail(error)
            raise
        if self._self_span.is_open():
            self._self_parts.append(bytes(data))
            if amt is None or amt < 0 or (not data and amt > 0):
                self._self_ended()
        return data

    def readinto(self, into: Any) -> Any:
        try:
            count = self.__wrapped__.readinto(into)
        except BaseException as error:
            self._self_span.fail(error)
            raise
        if self._self_span.is_open():
            self._self_parts.append(bytes(memoryview(into)[:count]))
            if not count:
                self._self_ended()
        return count

    def _self_ended(self, *, quiet: bool = False) -> None:
        span = self._self_span
        try:
            if self._self_parts:
                tell(span, self._self_operation.answer(b"".join(self._self_parts)))
        except Exception as error:  # noqa: BLE001
            trouble.note("reading an answer of Bedrock", error, quiet=quiet)
        span.close(SpanStatus.OK, quiet=quiet)

    def __del__(self) -> None:
        span = getattr(self, "_self_span", None)
        if span is not None and span.is_open():
            self._self_ended(quiet=True)  # the answer came; nobody read it to its end


def _request(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    said = args[1] if len(args) > 1 else kwargs.get("api_params") or {}
    model = plain_text(get(said, "modelId"))
    name = args[0]
    if name.startswith("Converse"):
        given: Any = convention.converse_messages(get(said, "messages"), get(said, "system"))
        settings = get(said, "inferenceConfig") or {}
        options = {
            "temperature": get(settings, "temperature"),
            "top_p": get(settings, "topP"),
            "max_tokens": get(settings, "maxTokens"),
            "stop_sequences": get(settings, "stopSequences"),
            "tools": get(get(said, "toolConfig"), "tools"),
        }
    else:
        given, options = convention.invoked_input(get(said, "body")), {}
    options["stream"] = name.endswith("Stream")
    operation = "embeddings" if "embed" in (model or "") else "chat"
    attributes = request_attributes(operation, "aws.bedrock", model, options)
    attributes["cloud.region"] = client.meta.region_name
    return Request(f"{operation} {model or ''}".rstrip(), given, model, "aws.bedrock", attributes)


_OPERATIONS = {
    "Converse": Operation("llm", _request, convention.converse_answer),
    "ConverseStream": Operation("llm", _request, convention.converse_answer, convention.ConverseReader),
    "InvokeModel": Operation("llm", _request, convention.invoked_answer),
    "InvokeModelWithResponseStream": Operation("llm", _request, convention.invoked_answer, convention.InvokedReader),
}
