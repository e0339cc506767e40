"""Methods on features of any tap."""
