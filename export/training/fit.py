"""The fit loop: what is minimised, on which batches, with which optimizer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from duoserve.contract import PreprocessingSpec
from export.dataset.batches import Batches, segmentations
from export.dataset.data import Arrays
from export.dataset.pipeline import pipeline
from export.dataset.streaming import StreamedImages
from export.training.checkpoint import Checkpoint
from export.training.heads import Head
from export.training.model import IMAGE_FEATURES, TEXT_FEATURES
from export.training.presets import BASELINES, Preset
from export.training.progress import ProgressBar
from export.training.running import Running

__all__ = ["computing_in", "fit"]


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """A context manager: layers made inside compute in this precision, and keep their weights in float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def fit(
    model: keras.Model,
    arrays: Arrays,
    texts: Sequence[str],
    spec: PreprocessingSpec,
    *,
    preset: Preset,
    fusion: str,
    head: Head,
    seed: int,
    progress: bool | None,
    run: Running,
    training: Mapping[str, Any],
) -> dict[str, list[float]]:
    """Trains a model of `build_model` in place; returns the loss, and any accuracy, of every epoch.

    Call it under the strategy and the precision that the model was built with.

    Args:
        model: Without training.
        arrays: The training rows.
        texts: Their texts, in the same order.
        spec: The model's preprocessing.
        preset: Epochs, rates and regularisation.
        fusion: The model's fusion; a baseline has one branch only, without branch losses.
        head: The model's head, with its loss.
        seed: Decides the order of rows and how they are varied.
        progress: Whether to draw a progress bar; None draws one on a terminal only.
        run: How it runs.
        training: Identifies this training: the checkpoint of another one is refused.

    Raises:
        ExportError: The checkpoint is damaged or of another training.
        DataError: A streamed image has changed since it was checked.
    """
    trainer = _with_branch_losses(model, preset, fusion, head)
    outputs = tuple(trainer.output)
    batches = Batches(
        arrays,
        outputs=outputs,
        batch_size=preset.batch_size,
        shift=round(preset.shift * preset.image_size),
        segmentations=segmentations(texts, spec, preset.segmentations),
        seed=seed,
        least=run.devices,  # a replica without a row would divide by zero
    )
    steps = len(batches)
    _compile(trainer, preset, head, steps=preset.epochs * steps, accumulate=run.accumulate)
    checkpoint = Checkpoint(run.checkpoint, training, steps=steps, every=run.checkpoint_every)
    done = checkpoint.step
    if 0 < done < preset.epochs * steps:
        # Keras creates these variables in the first step, which is too late to restore their values.
        trainer.optimizer.build(trainer.trainable_variables)
        trainer.test_on_batch(*batches.batch(0, 0))
    bar = ProgressBar(progress, epochs=preset.epochs, steps=preset.epochs * steps, done=done)
    try:
        with bar:
            for first, last in _parts(done, steps, preset.epochs):
                trainer.fit(
                    pipeline(batches, first=first, last=last, outputs=outputs),
                    initial_epoch=first // steps,
                    epochs=-(-last // steps),
                    steps_per_epoch=min(steps, last - first),
                    verbose=0,
                    callbacks=[checkpoint, bar],
                )
    except tf.errors.OpError as error:
        images: Any = arrays.images
        if isinstance(images, StreamedImages) and images.problem is not None:
            raise images.problem from error
        raise
    if done == preset.epochs * steps:
        checkpoint.finish(trainer)
    else:
        checkpoint.write()
    # Keras prefixes metrics with the output's name if the model has several outputs.
    keys = {"loss": "loss", **{key: name for name in head.metrics for key in (name, f"{head.name}_{name}")}}
    return {
        keys[key]: [round(value, 4) for value in values] for key, values in checkpoint.history.items() if key in keys
    }


def _with_branch_losses(model: keras.Model, preset: Preset, fusion: str, head: Head) -> keras.Model:
    """The same model with every output that gets a loss, by name."""
    outputs = {head.name: model.output}
    if preset.branch_loss and fusion not in BASELINES:
        # Fused alone, the branch that learns faster (the text, which it memorises) leaves the other nothing
        # to learn. A separate loss keeps each branch learning; its head is discarded afterwards.
        for name in (IMAGE_FEATURES, TEXT_FEATURES):
            outputs[f"{name}_alone"] = head.build(model.get_layer(name).output, f"{name}_alone")
    return keras.Model(model.input, outputs)


def _parts(done: int, steps: int, epochs: int) -> Iterator[tuple[int, int]]:
    """First and last step (exclusive) of the remaining epochs, beginning with an interrupted one."""
    if rest := done % steps:
        yield done, done - rest + steps
        done += steps - rest
    if done < epochs * steps:
        yield done, epochs * steps


def _compile(trainer: keras.Model, preset: Preset, head: Head, *, steps: int, accumulate: int) -> None:
    rate: Any = preset.learning_rate
    if preset.decay:
        rate = keras.optimizers.schedules.CosineDecay(rate, steps // accumulate)
    adding_up = accumulate if accumulate > 1 else None
    names = tuple(trainer.output)
    trainer.compile(
        optimizer=keras.optimizers.AdamW(rate, preset.weight_decay, gradient_accumulation_steps=adding_up)
        if preset.weight_decay
        else keras.optimizers.Adam(rate, gradient_accumulation_steps=adding_up),
        loss={name: head.loss(preset.label_smoothing) for name in names},
        loss_weights={name: 1.0 if name == head.name else preset.branch_loss for name in names},
        metrics={head.name: list(head.metrics)},
        jit_compile=False,  # compiling would take longer than it saves in a run this short
    )
