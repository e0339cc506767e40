"""What edgekd adds to the training engine; nothing else in `edgekd.training` imports it."""
