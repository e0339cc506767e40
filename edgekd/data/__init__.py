"""Data sets: what is read, checked, shown to the training engine and packed for devices."""
