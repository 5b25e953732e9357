"""Dies the moment ``evaluate`` returns: what is found afterwards was journaled by then."""

import os
import signal

from items import items, right
from rounds import AT_ONCE, either

import tracekeeper as tk

tk.evaluate(items, either, metrics=[right], concurrency=AT_ONCE, name="killed")
os.kill(os.getpid(), signal.SIGKILL)
