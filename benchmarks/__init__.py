"""Benchmarks: Tracekeeper beside its peers on the same machine, interleaved, as medians and ratios.

``python -m benchmarks`` runs all, ``python -m benchmarks traced_call scoring`` some. Each peer lives in a cached
environment of its own (``~/.cache/tracekeeper-bench``), is used as its documentation says, and sends to a local
server that accepts everything; one that does not install is named as such. Nobody is slowed down.
"""
