import os
import pathlib
import subprocess
import sys

from rounds import AT_ONCE, COUNT, KIND, best, task

if KIND == "async":
    print("none")  # `evaluate` takes no async task
else:
    place = pathlib.Path(__file__).with_name("opik_backend.py")
    backend = subprocess.Popen([sys.executable, str(place)], stdout=subprocess.PIPE, text=True)
    try:
        os.environ["OPIK_URL_OVERRIDE"] = f"http://127.0.0.1:{int(backend.stdout.readline())}/"
        os.environ.update(OPIK_SENTRY_ENABLE="false", OPIK_ANALYTICS_ENABLED="false")
        import opik
        from opik.evaluation.metrics import base_metric, score_result

        class Right(base_metric.BaseMetric):
            def score(self, output, number, **_):
                return score_result.ScoreResult(name="right", value=float(output == number))

        dataset = opik.Opik().get_or_create_dataset("bench")
        dataset.insert([{"number": number} for number in range(COUNT)])
        metrics = [Right(name="right", track=False)]

        def run():
            done = opik.evaluate(
                dataset,
                lambda item: {"output": task(item["number"])},
                scoring_metrics=metrics,
                task_threads=AT_ONCE,
                verbose=0,
            )
            values = [score.value for one in done.test_results for score in one.score_results]
            assert len(values) == COUNT
            return sum(values) / len(values)

        best(run, 1)
    finally:
        backend.kill()
