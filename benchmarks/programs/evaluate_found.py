"""Prints how many items and scores of the killed run are there."""

import tracekeeper as tk

found = tk.Experiment.load("killed")
print(sum(item.status == "ok" for item in found), found.summary().metrics["right"].scored)
