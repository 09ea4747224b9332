"""Sets up Keras as this package needs it, whatever KERAS_BACKEND and ~/.keras/keras.json have.

Models are exported by TensorFlow, read RGB images with channels last, and keep weights in float32.
The backend is set in `export/__init__.py`, before Keras is imported; the rest can be set and restored at any time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras

from export.errors import ExportError

__all__ = ["keras_settings"]


@contextlib.contextmanager
def keras_settings() -> Iterator[None]:
    """A context manager and decorator: inside, Keras has the settings that the package needs.

    Raises:
        ExportError: Keras was imported with another backend before, which can't be undone.
    """
    if keras.config.backend() != "tensorflow":
        raise ExportError(
            "Expected Keras with the backend tensorflow: import export before keras, or set KERAS_BACKEND=tensorflow."
            f" Received: {keras.config.backend()}"
        )
    config = keras.config
    before = config.floatx(), config.image_data_format(), config.dtype_policy(), config.max_epochs()
    try:
        _set("float32", "channels_last", "float32", None)
        yield
    finally:
        _set(*before)


def _set(floatx: str, data_format: str, policy: str | keras.DTypePolicy, epochs: int | None) -> None:
    keras.config.set_floatx(floatx)
    keras.config.set_image_data_format(data_format)
    keras.config.set_dtype_policy(policy)
    keras.config.set_max_epochs(epochs)
