"""An example app that answers questions about Tracekeeper's own documentation: ``tracekeeper demo``.

Read ``tracekeeper/demo/app.py`` as an example of how an app is traced and judged.
"""
