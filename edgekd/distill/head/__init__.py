"""Methods on the predictions of a dense head."""
