"""Train, export and check two-input models. Run from the repository root: `python -m export`."""

import os

# Set before Keras is imported, whatever ~/.keras/keras.json has: see export.keras_settings.
os.environ["KERAS_BACKEND"] = "tensorflow"
