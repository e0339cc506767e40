"""Methods on predictions of chosen queries."""
