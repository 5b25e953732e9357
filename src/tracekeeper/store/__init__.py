"""The database: tables, the one transaction that stores a batch, and everything that reads.

``tracekeeper.store.store.Store`` is the door; ``docs/design/store.md`` says how it works. This package imports nothing
by itself, because whoever plans a batch (``store.rows``) must not pay for the import of SQLAlchemy.
"""
