"""The journal: a crash-safe buffer on the local disk, written by every thread without a lock.

``writer.Journal`` writes it, ``reader.JournalReader`` reads it, ``frames`` says what is in it. How it works and why:
``docs/design/journal.md``.
"""
