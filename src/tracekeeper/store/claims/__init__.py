"""Claims in the store: who computes what waits, until when, and what becomes of it when they are lost."""
