import asyncio
import os
import tempfile

os.environ["INSPECT_LOG_DIR"] = tempfile.mkdtemp()

from rounds import AT_ONCE, COUNT, KIND, PAUSE, best

if KIND == "sync":
    print("none")  # its solvers are coroutines
else:
    from inspect_ai import Task, eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import match
    from inspect_ai.solver import solver

    @solver
    def waits():
        async def solve(state, generate):
            await asyncio.sleep(PAUSE)
            state.output.completion = state.input_text
            return state

        return solve

    samples = [Sample(id=number + 1, input=str(number), target=str(number)) for number in range(COUNT)]

    def run():
        task = Task(dataset=MemoryDataset(samples), solver=waits(), scorer=match(location="exact"))
        [log] = eval(task, model="mockllm/model", max_samples=AT_ONCE, display="none")
        assert log.results.completed_samples == COUNT
        return log.results.scores[0].metrics["accuracy"].value

    best(run, 1)
