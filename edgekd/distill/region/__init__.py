"""Methods on regions: boxes cut out of the feature pyramid by RoIAlign."""
