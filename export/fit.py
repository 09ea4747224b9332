"""The fit loop: what is minimised, on which batches, with which optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from duoserve.contract import PreprocessingSpec
from export._presets import BASELINES, Preset
from export._progress import ProgressBar
from export.batches import Batches, segmentations
from export.data import Arrays
from export.model import IMAGE_FEATURES, TEXT_FEATURES

__all__ = ["fit"]


def fit(
    model: keras.Model,
    arrays: Arrays,
    texts: Sequence[str],
    spec: PreprocessingSpec,
    *,
    preset: Preset,
    fusion: str,
    seed: int,
    progress: bool | None,
) -> dict[str, list[float]]:
    """Trains a model of `build_model` in place; the loss and accuracy of every epoch.

    Args:
        model: Without training.
        arrays: The training rows.
        texts: Their texts, in the same order.
        spec: The model's preprocessing.
        preset: Epochs, rates and what regularises.
        fusion: The model's; a baseline has one branch only, and no loss of its own for each.
        seed: Decides the order of rows and how they are varied.
        progress: Whether to draw a progress bar; None draws one on a terminal only.
    """
    trainer = _with_branch_losses(model, preset, fusion, len(spec.labels))
    batches = Batches(
        arrays,
        classes=len(spec.labels),
        outputs=tuple(trainer.output),
        batch_size=preset.batch_size,
        shift=round(preset.shift * preset.image_size),
        segmentations=segmentations(texts, spec, preset.segmentations),
        seed=seed,
    )
    _compile(trainer, preset, steps=preset.epochs * len(batches))
    done = trainer.fit(batches, epochs=preset.epochs, verbose=0, shuffle=False, callbacks=[ProgressBar(progress)])
    return {
        "loss": [round(float(value), 4) for value in done.history["loss"]],
        "accuracy": [
            round(float(value), 4) for key in done.history if key.endswith("accuracy") for value in done.history[key]
        ],
    }


def _with_branch_losses(model: keras.Model, preset: Preset, fusion: str, classes: int) -> keras.Model:
    """The same model with every output that gets a loss, by name."""
    outputs = {"probabilities": model.output}
    if preset.branch_loss and fusion not in BASELINES:
        # Fused alone, the branch that learns faster (the text, by heart) leaves the other nothing
        # to learn. A loss of its own keeps each branch learning; its head is thrown away after.
        for name in (IMAGE_FEATURES, TEXT_FEATURES):
            head = keras.layers.Dense(classes, activation="softmax", name=f"{name}_alone")
            outputs[f"{name}_alone"] = head(model.get_layer(name).output)
    return keras.Model(model.input, outputs)


def _compile(trainer: keras.Model, preset: Preset, *, steps: int) -> None:
    rate: Any = preset.learning_rate
    if preset.decay:
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    names = tuple(trainer.output)
    trainer.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=preset.weight_decay)
        if preset.weight_decay
        else keras.optimizers.Adam(rate),
        loss={name: keras.losses.CategoricalCrossentropy(label_smoothing=preset.label_smoothing) for name in names},
        loss_weights={name: 1.0 if name == "probabilities" else preset.branch_loss for name in names},
        metrics={"probabilities": ["accuracy"]},
        jit_compile=False,  # compiling would take longer than it saves in a run this short
    )
