"""Figures from arrays: average precision, latency, intervals. Pure functions; no model and no device in sight."""
