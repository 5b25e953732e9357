"""One run of ``evaluate`` while it goes on: calls that begin and end, scores that come, what is journaled of both."""
