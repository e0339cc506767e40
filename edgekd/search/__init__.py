"""Searches: which student is quick enough for a device, and which distiller teaches it best."""
