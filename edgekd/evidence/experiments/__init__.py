"""One file per experiment; each registers itself."""
