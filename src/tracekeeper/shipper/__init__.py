"""From the journal into the store: what to write (``plan``), one journal's way (``feed``), the loop, and the dead.

Imports nothing by itself: ``worker`` costs the standard library only and is imported by every traced program, the
other modules need the database layer and are imported in the shipper's own thread.
"""
