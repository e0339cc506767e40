"""Methods that the literature files under the backbone; their taps may be its stages, or the neck."""
