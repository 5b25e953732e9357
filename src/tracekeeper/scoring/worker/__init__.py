"""Taking up scores that nobody computes: deferred ones, and those whose process is gone. See ``docs/workers.md``."""
