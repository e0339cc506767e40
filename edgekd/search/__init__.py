"""Searches: which student is quick enough for a device."""
