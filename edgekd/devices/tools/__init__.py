"""Timing programs for devices without Python: how to call them and what they say, and what drives them there."""
