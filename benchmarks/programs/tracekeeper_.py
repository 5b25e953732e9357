from measure import report

import tracekeeper as tk


@tk.trace
def ask(question: str) -> str:
    return "mild"


report(ask, lambda: tk.flush(timeout=60))
