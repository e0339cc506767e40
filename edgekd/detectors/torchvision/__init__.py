"""Detectors of torchvision, as teachers."""
