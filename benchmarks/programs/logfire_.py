import os

import logfire
from measure import report
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

logfire.configure(
    send_to_logfire=False,
    console=False,
    additional_span_processors=[BatchSpanProcessor(OTLPSpanExporter(os.environ["SINK"] + "/v1/traces"))],
)


@logfire.instrument(record_return=True)
def ask(question: str) -> str:
    return "mild"


report(ask, logfire.force_flush)
