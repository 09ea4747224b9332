"""Several devices for one training: each takes a share of every batch, all have the same weights."""

from __future__ import annotations

import keras
import tensorflow as tf

from export.errors import ExportError

__all__ = ["share_statistics", "strategy"]


def strategy(devices: int) -> tf.distribute.Strategy:
    """One device, or this number of replicas: GPUs if there are enough, otherwise parts of the CPU.

    Raises:
        ExportError: More than one, but TensorFlow has already started in this process.
    """
    if devices == 1:
        return tf.distribute.get_strategy()
    if len(tf.config.list_physical_devices("GPU")) >= devices:
        return tf.distribute.MirroredStrategy([f"GPU:{number}" for number in range(devices)])
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) != devices:
            raise ExportError(
                f"Expected to divide the CPU into {devices} devices before TensorFlow runs. Received: {error}"
            ) from error
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(devices)])


def share_statistics(model: keras.Model) -> None:
    """Batch normalisation takes the mean of the whole batch, not of a replica's share of it."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
