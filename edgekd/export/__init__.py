"""Converts a student to what devices run: one file per step, one YAML per target."""
