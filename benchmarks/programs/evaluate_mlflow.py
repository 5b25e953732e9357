"""MLflow, into a SQLite database, with the settings that its documentation gives for many calls at a time.

Its store keeps a pool of 5 connections and 10 more (SQLAlchemy's default). A thread that logs a trace holds one and
asks for another, so from 16 workers on they wait for each other until the pool gives up after 30 s, and what they had
to log is lost ("Failed to send trace to MLflow backend: QueuePool limit of size 5 overflow 10 reached"; of 60 items at
64 at once its result then has 9). Hence a pool that fits its workers.
"""

import os
import tempfile

from rounds import AT_ONCE, COUNT, best, either

os.environ["MLFLOW_GENAI_EVAL_MAX_WORKERS"] = str(AT_ONCE)
os.environ["MLFLOW_GENAI_EVAL_ENABLE_SCORER_TRACING"] = "false"
os.environ["MLFLOW_GENAI_EVAL_PREDICT_RATE_LIMIT"] = os.environ["MLFLOW_GENAI_EVAL_SCORER_RATE_LIMIT"] = "0"
os.environ["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] = str(2 * AT_ONCE)
os.environ["TQDM_DISABLE"] = "1"

import mlflow
from mlflow.genai.scorers import scorer

mlflow.set_tracking_uri(f"sqlite:///{tempfile.mkdtemp()}/mlflow.db")


@scorer
def right(outputs, expectations):
    return float(outputs == expectations["number"])


data = [{"inputs": {"number": number}, "expectations": {"number": number}} for number in range(COUNT)]


runs = []


def run():
    result = mlflow.genai.evaluate(data=data, predict_fn=either, scorers=[right])
    runs.append(result)
    return result.metrics["right/mean"]


best(run, 1)
for result in runs:
    assert len(result.result_df) == COUNT, f"{len(result.result_df):,} of {COUNT:,} items are in its result"
    kept = mlflow.search_traces(run_id=result.run_id, max_results=2 * COUNT, return_type="list")
    assert len(kept) == COUNT, f"{len(kept):,} of {COUNT:,} traces are in its store"
