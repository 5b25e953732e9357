import os
import tempfile

from measure import report

os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = os.environ["SINK"] + "/v1/traces"
os.environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
import mlflow

mlflow.set_tracking_uri(f"file://{tempfile.mkdtemp()}")


@mlflow.trace
def ask(question: str) -> str:
    return "mild"


report(ask)
