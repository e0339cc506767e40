"""Methods on the queries of a transformer decoder."""
