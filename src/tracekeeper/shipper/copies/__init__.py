"""Copies of what is stored, to any OTLP endpoint. See ``docs/design/copies.md``."""
