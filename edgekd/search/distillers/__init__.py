"""The search for the distiller of a pair of detectors."""
