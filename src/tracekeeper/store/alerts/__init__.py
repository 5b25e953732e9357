"""Alerts in the store: definitions, state and outbox, and the figures that they measure."""
