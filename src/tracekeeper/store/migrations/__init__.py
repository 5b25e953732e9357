"""The migrations of the database; Alembic finds them by their path (see ``store.schema``)."""
