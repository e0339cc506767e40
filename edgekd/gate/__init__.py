"""Budgets of a recipe and the verdict on what was measured."""
