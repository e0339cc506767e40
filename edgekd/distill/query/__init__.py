"""Methods that learn through queries: a decoder's own, those of a teacher, or some that belong to neither."""
