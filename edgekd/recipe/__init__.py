"""Recipes: schema, reading, and finding what users write."""
