"""Train, export and check two-input models. Run from the repository root: `python -m export`."""
