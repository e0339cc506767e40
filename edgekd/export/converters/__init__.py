"""Converters that run in an environment of their own: scripts that import nothing of edgekd. See `environment.py`."""
