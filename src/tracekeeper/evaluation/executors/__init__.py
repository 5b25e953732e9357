"""Where the calls of a run are made. ``local`` is this process; the interface (``executor``) is a page."""
