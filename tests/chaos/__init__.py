"""Chaos: apps and workers that are killed, stopped and starved, and a checker that holds the store to the truth.

``python -m tests.chaos`` (``make chaos``) runs it for ten minutes, ``test_chaos.py`` for seconds in every test run.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the metrics are a module that workers import by its name
