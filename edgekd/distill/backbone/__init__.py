"""Methods on backbone stages."""
