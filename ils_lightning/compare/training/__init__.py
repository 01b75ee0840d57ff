"""One training of a comparison: what is trained, by which Trainer, and what it came to."""
