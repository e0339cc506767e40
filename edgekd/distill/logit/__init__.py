"""Methods on class logits alone."""
