"""The last layers of a model and their losses, by kind of answer."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from duoserve.contract import Answer, OneClass, Scores, Tags, YesNo

Targets = npt.NDArray[Any]
Tensor = Any  # keras.KerasTensor: keras has no types to check against


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """The layers after the features.

    Attributes:
        name: Name of the output.
        build: `(features, name) -> output`, of shape (batch, columns), float32 under any policy.
        loss: `(label_smoothing) -> loss` on the targets.
        metrics: The metrics of an epoch beside the loss.
    """

    name: str
    build: Callable[[Tensor, str], Tensor]
    loss: Callable[[float], Any]
    metrics: tuple[str, ...] = ()


def head(answer: Answer, targets: Targets) -> Head:
    """The head of a model with this answer.

    Args:
        answer: The kind of answer.
        targets: Of the training rows: float array of shape (rows, columns). Their mean and deviation matter for scores.
    """
    return _HEADS[answer.kind](targets)


def _classes(targets: Targets) -> Head:
    return Head(OneClass.output, _dense(targets, "softmax"), _cross_entropy, ("accuracy",))


def _yes_no(targets: Targets) -> Head:
    """One sigmoid for "yes", and its complement for "no"."""

    def build(features: Tensor, name: str) -> Tensor:
        yes = layers.Dense(1, activation="sigmoid", dtype="float32", name=f"{name}_yes")(features)
        no = layers.Rescaling(-1.0, offset=1.0, dtype="float32", name=f"{name}_no")(yes)
        return layers.Concatenate(dtype="float32", name=name)([no, yes])

    return Head(YesNo.output, build, _cross_entropy, ("accuracy",))


def _tags(targets: Targets) -> Head:
    """A sigmoid for each. Labels are not smoothed: that would lift the probabilities of all rare tags."""
    return Head(Tags.output, _dense(targets, "sigmoid"), lambda smoothing: keras.losses.BinaryCrossentropy())


def _dense(targets: Targets, activation: str) -> Callable[[Tensor, str], Tensor]:
    def build(features: Tensor, name: str) -> Tensor:
        return layers.Dense(targets.shape[1], activation=activation, dtype="float32", name=name)(features)

    return build


def _scores(targets: Targets) -> Head:
    """Numbers in their own units; the loss is in standard deviations of the training rows."""
    mean, deviation = targets.mean(axis=0, dtype=np.float64), targets.std(axis=0, dtype=np.float64)

    def build(features: Tensor, name: str) -> Tensor:
        standard = layers.Dense(targets.shape[1], dtype="float32", name=f"{name}_standard")(features)
        in_units = layers.Rescaling(deviation.tolist(), offset=mean.tolist(), dtype="float32", name=name)
        return in_units(standard)

    def squared_error(truth: Tensor, found: Tensor) -> Tensor:
        return keras.ops.mean(keras.ops.square((found - truth) / deviation.astype(np.float32)), axis=-1)

    return Head(Scores.output, build, lambda smoothing: squared_error)


def _cross_entropy(smoothing: float) -> Any:
    return keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)


_HEADS: Final[Mapping[str, Callable[[Targets], Head]]] = MappingProxyType(
    {OneClass.kind: _classes, YesNo.kind: _yes_no, Tags.kind: _tags, Scores.kind: _scores}
)
