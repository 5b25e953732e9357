import os
import tempfile

from rounds import AT_ONCE, COUNT, best, either

os.environ["MLFLOW_GENAI_EVAL_MAX_WORKERS"] = str(AT_ONCE)
os.environ["MLFLOW_GENAI_EVAL_ENABLE_SCORER_TRACING"] = "false"
os.environ["MLFLOW_GENAI_EVAL_PREDICT_RATE_LIMIT"] = os.environ["MLFLOW_GENAI_EVAL_SCORER_RATE_LIMIT"] = "0"
os.environ["TQDM_DISABLE"] = "1"

import mlflow
from mlflow.genai.scorers import scorer

mlflow.set_tracking_uri(f"sqlite:///{tempfile.mkdtemp()}/mlflow.db")


@scorer
def right(outputs, expectations):
    return float(outputs == expectations["number"])


data = [{"inputs": {"number": number}, "expectations": {"number": number}} for number in range(COUNT)]


def run():
    result = mlflow.genai.evaluate(data=data, predict_fn=either, scorers=[right])
    assert len(result.result_df) == COUNT
    return result.metrics["right/mean"]


best(run, 1)
