from maps import AT_ONCE, CALLS, KIND, best, call

if KIND == "async":
    print("none")  # it has no map of this kind
else:
    import dspy

    class Call(dspy.Module):
        def forward(self, number):
            return call(number)

    module = Call()
    parallel = dspy.Parallel(num_threads=AT_ONCE, disable_progress_bar=True)
    best(lambda: parallel([(module, {"number": number}) for number in range(CALLS)]))
