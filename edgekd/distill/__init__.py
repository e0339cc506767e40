"""Distillation methods, one file each, in folders by the level at which they compare teacher and student."""
