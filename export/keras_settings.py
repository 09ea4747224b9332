"""Sets up Keras as this package needs it, whatever KERAS_BACKEND and ~/.keras/keras.json have.

Models are exported by TensorFlow, read RGB images with channels last, keep weights in float32, and have layers of any
names. The backend is set in `export/__init__.py`, before Keras is imported; the rest can be set and restored at any
time.
"""

import contextlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

import keras
import tensorflow as tf

from export.errors import ExportError

_NAME_SCOPE: Final = tf.Graph.name_scope


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
    name_scope = tf.Graph.name_scope
    try:
        _set("float32", "channels_last", "float32", None)
        tf.Graph.name_scope = _any_name_scope
        yield
    finally:
        _set(*before)
        tf.Graph.name_scope = name_scope


def _any_name_scope(graph: tf.Graph, name: Any) -> AbstractContextManager[str]:
    """Layers and weights can have names that TensorFlow refuses for the scopes that it makes of them."""
    if isinstance(name, str) and name:
        name = re.sub(r"^(?![A-Za-z0-9.])", "private", re.sub(r"[^\w.\\/>-]", "_", name, flags=re.ASCII))
    return _NAME_SCOPE(graph, name)  # type: ignore[no-any-return]


def _set(floatx: str, data_format: str, policy: str | keras.DTypePolicy, epochs: int | None) -> None:
    keras.config.set_floatx(floatx)
    keras.config.set_image_data_format(data_format)
    keras.config.set_dtype_policy(policy)
    keras.config.set_max_epochs(epochs)
