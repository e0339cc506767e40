"""Methods on regions of interest."""
