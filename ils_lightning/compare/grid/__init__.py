"""What is compared: the comparison file, its settings, names and keys."""
