"""Training data: `manifest.csv`, the demo data, splits and batches."""
