"""Methods that learn through queries: embeddings of what a detector knows, whatever its architecture."""
