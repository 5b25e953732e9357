from rounds import AT_ONCE, COUNT, KIND, best, task

if KIND == "async":
    print("none")  # its evaluator calls programs on threads only
else:
    import dspy

    class Program(dspy.Module):
        def forward(self, number):
            return dspy.Prediction(answer=task(number))

    devset = [dspy.Example(number=number, answer=number).with_inputs("number") for number in range(COUNT)]
    evaluator = dspy.Evaluate(
        devset=devset,
        metric=lambda example, prediction, trace=None: float(example.answer == prediction.answer),
        num_threads=AT_ONCE,
        display_progress=False,
    )
    program = Program()
    best(lambda: evaluator(program).score / 100, 1)
