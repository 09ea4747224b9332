"""What is learnt on top of the frozen encoders: kernel ridge regression with a Gaussian kernel.

Every vector is standardised and scaled to length 1. A row is as near to a training row as its vectors
are, each with a weight; the scores of the classes are a weighted sum over the training rows of how
near they are. With vectors of length 1 that is two dense layers: the first has a unit for each
training row and `exp` as activation. The weights of the second are solved for, not trained: seconds,
and the same ones every time.

The kernel's width and the image's weight are chosen by cross-validation over groups of
the training rows, and the scale of the scores, of which a softmax makes probabilities, by its loss.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_FOLDS: Final = 5
_GAMMAS: Final = (1.0, 1.5, 2.0)
_IMAGE_WEIGHTS: Final = (0.3, 0.6)
_RIDGE: Final = 0.1  # hardly matters from 0.03 to 0.3
_SCALES: Final = tuple(np.geomspace(2, 20, 16))
_SMALL: Final = 1e-3  # of the mean variance: a feature that hardly changes is not blown up


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """Weights of the layers of `demo.pretrained.joined.build`.

    Attributes:
        means, variances: Of each vector's features.
        near: Kernel (features, rows) and bias (rows,) of the layer with `exp`.
        classes: Kernel (rows, classes) and bias (classes,) of the layer with the softmax.
        chosen: What cross-validation chose, and the share of rows that it got right.
    """

    means: list[Array]
    variances: list[Array]
    near: tuple[Array, Array]
    classes: tuple[Array, Array]
    chosen: dict[str, float]

    def __call__(self, parts: Sequence[Array]) -> Array:
        """Logits, float array of shape (rows, classes), of vectors as the encoders give them."""
        joined = np.concatenate(_units(parts, self.means, self.variances), axis=1)
        logits: Array = np.exp(joined @ self.near[0] + self.near[1]) @ self.classes[0] + self.classes[1]
        return logits


def fit(parts: Sequence[Array], images: Sequence[bool], classes: Array, groups: Sequence[str]) -> Head:
    """Chooses and solves.

    Args:
        parts: Arrays of shape (rows, features), one for each vector that the encoders give.
        images: Whether it is one of the image, whose weight is chosen if there are both.
        classes: int array of shape (rows,).
        groups: Rows of one group are in one fold.
    """
    means = [part.mean(axis=0) for part in parts]
    variances = [part.var(axis=0) for part in parts]
    variances = [each + _SMALL * each.mean() for each in variances]
    units = [unit.astype(np.float32) for unit in _units(parts, means, variances)]
    targets = np.eye(int(classes.max()) + 1, dtype=np.float32)[classes]
    _, codes = np.unique(groups, return_inverse=True)
    folds = (np.random.default_rng(0).permutation(codes.max() + 1) % _FOLDS)[codes]

    best: dict[str, float] = {"right": -1.0}
    for image_weight in _IMAGE_WEIGHTS if len(set(images)) == 2 else (1.0,):
        weights = _weights(images, image_weight)
        likeness = sum(weight * unit @ unit.T for weight, unit in zip(weights, units, strict=True))
        for gamma in _GAMMAS:
            scores = _held_out_scores(np.exp(gamma * (likeness - sum(weights))), targets, folds)
            right = float(np.mean(scores.argmax(axis=1) == classes))
            if right > best["right"]:
                scale = min(_SCALES, key=lambda scale: _loss(scores * scale, classes))
                best = {"right": right, "image_weight": image_weight, "gamma": gamma, "scale": scale}

    weights = _weights(images, best["image_weight"])
    likeness = sum(weight * unit @ unit.T for weight, unit in zip(weights, units, strict=True))
    kernel = np.exp(best["gamma"] * (likeness - sum(weights)))
    near = best["gamma"] * np.concatenate(
        [weight * unit for weight, unit in zip(weights, units, strict=True)], axis=1
    )  # a row for each training row
    return Head(
        means=means,
        variances=variances,
        near=(near.T, np.full(len(classes), -best["gamma"] * sum(weights))),
        classes=(best["scale"] * _solve(kernel, targets), best["scale"] * targets.mean(axis=0)),
        chosen=best,
    )


def _weights(images: Sequence[bool], image_weight: float) -> list[float]:
    """Those of the text add up to 1."""
    return [image_weight if image else 1 / (len(images) - sum(images)) for image in images]


def _units(parts: Sequence[Array], means: Sequence[Array], variances: Sequence[Array]) -> list[Array]:
    standard = [(part - mean) / np.sqrt(variance) for part, mean, variance in zip(parts, means, variances, strict=True)]
    return [each / np.linalg.norm(each, axis=1, keepdims=True) for each in standard]


def _held_out_scores(kernel: Array, targets: Array, folds: Array) -> Array:
    scores = np.zeros_like(targets)
    for fold in range(_FOLDS):
        here, there = folds != fold, folds == fold
        solved = _solve(kernel[np.ix_(here, here)], targets[here])
        scores[there] = kernel[np.ix_(there, here)] @ solved + targets[here].mean(axis=0)
    return scores


def _solve(kernel: Array, targets: Array) -> Array:
    solved: Array = np.linalg.solve(
        kernel + _RIDGE * np.eye(len(kernel), dtype=kernel.dtype), targets - targets.mean(axis=0)
    )
    return solved


def _loss(logits: Array, classes: Array) -> float:
    highest = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - highest).sum(axis=1)) + highest[:, 0]
    return float(np.mean(total - logits[np.arange(len(classes)), classes]))
