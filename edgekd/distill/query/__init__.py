"""Methods on queries: what a decoder makes of its own, of the teacher's, or of queries that belong to neither."""
