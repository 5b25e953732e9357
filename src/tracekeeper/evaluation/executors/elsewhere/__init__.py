"""Calls that are made in other processes, whichever engine starts those: what is sent, who makes it, who keeps count.

``worker`` runs there, all else at home. See ``docs/design/executors.md``.
"""
