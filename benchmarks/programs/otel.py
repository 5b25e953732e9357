import os

from measure import report
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(os.environ["SINK"] + "/v1/traces")))
tracer = provider.get_tracer("bench")


def ask(question: str) -> str:
    with tracer.start_as_current_span("ask") as span:
        span.set_attribute("input", question)
        span.set_attribute("output", "mild")
        return "mild"


report(ask, provider.force_flush)
