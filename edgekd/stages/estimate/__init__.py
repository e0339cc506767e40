"""How long a recipe's run takes and what it needs, before it begins: a few real steps, and what earlier runs took."""
