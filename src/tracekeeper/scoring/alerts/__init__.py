"""Alerts: a threshold on a rolling figure, checked by whichever process is alive, told by a signed webhook."""
