"""Dies the moment ``evaluate`` returns: what is found afterwards was journaled by then."""

import os
import signal

from evaluate_ import AT_ONCE, ITEMS, KIND, atask, task

import tracekeeper as tk


def right(output, expected):
    return output == expected


items = [{"id": str(number), "number": number, "expected": number} for number in range(ITEMS)]
tk.evaluate(items, atask if KIND == "async" else task, metrics=[right], concurrency=AT_ONCE, name="killed")
os.kill(os.getpid(), signal.SIGKILL)
