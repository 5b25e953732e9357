"""A pool of processes of our own: calls that can be killed at their deadline."""
