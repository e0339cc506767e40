"""Methods on the memory of transformer encoders."""
