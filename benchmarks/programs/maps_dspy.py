from rounds import AT_ONCE, COUNT, KIND, best, task

if KIND == "async":
    print("none")  # it has no map of this kind
else:
    import dspy

    class Call(dspy.Module):
        def forward(self, number):
            return task(number)

    module = Call()
    parallel = dspy.Parallel(num_threads=AT_ONCE, disable_progress_bar=True)
    pairs = [(module, {"number": number}) for number in range(COUNT)]
    best(lambda: list(parallel(pairs)), list(range(COUNT)))
