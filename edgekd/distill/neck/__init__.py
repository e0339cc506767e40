"""Methods on the feature pyramid that feeds the head."""
