"""Training on the family's own engine, with distillers beside the student and the teacher outside."""
