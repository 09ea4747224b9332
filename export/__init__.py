"""Train, export and check two-input models. Run from the repository root: `python -m export`."""

import os

# Before Keras is imported, and whatever ~/.keras/keras.json says: see export.keras_settings.
os.environ["KERAS_BACKEND"] = "tensorflow"
