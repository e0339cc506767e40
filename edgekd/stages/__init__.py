"""The stages of a run: what each does, reads and writes."""
