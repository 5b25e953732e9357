"""Spans of OpenTelemetry, sent to the benchmark's sink in batches."""

import os

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def processor():
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=os.environ["SINK"] + "/v1/traces"))
