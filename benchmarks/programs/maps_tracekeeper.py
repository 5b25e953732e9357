from rounds import AT_ONCE, COUNT, best, either

import tracekeeper as tk


def run():
    return [outcome.value for outcome in tk.parallel_map(either, range(COUNT), concurrency=AT_ONCE, timeout=60)]


best(run, list(range(COUNT)))
