"""Teachers and students of any family behind one contract."""
