from maps import AT_ONCE, CALLS, KIND, acall, best, call

import tracekeeper as tk

fn = call if KIND == "sync" else acall
best(lambda: [outcome.value for outcome in tk.parallel_map(fn, range(CALLS), concurrency=AT_ONCE, timeout=60)])
