from dataclasses import dataclass

from evaluate_ import AT_ONCE, ITEMS, KIND, atask, best, task
from pydantic_evals import Case, Dataset
from pydantic_evals.evaluators import Evaluator


@dataclass
class Right(Evaluator):
    def evaluate(self, context):
        return float(context.output == context.expected_output)


cases = [Case(name=str(number), inputs=number, expected_output=number) for number in range(ITEMS)]
dataset = Dataset(name="bench", cases=cases, evaluators=[Right()])
function = atask if KIND == "async" else task


def run():
    report = dataset.evaluate_sync(function, max_concurrency=AT_ONCE, progress=False)
    assert len(report.cases) == ITEMS
    return report.averages().scores["Right"]


best(run)
