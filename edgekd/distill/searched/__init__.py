"""A loss put together from parts, for hand-written recipes and for `edgekd search`."""
