"""The fit loop: what is minimised, on which batches, with which optimizer, on which devices."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from duoserve.contract import PreprocessingSpec
from export.dataset.batches import Batches, segmentations
from export.dataset.data import Arrays, StreamedImages
from export.errors import ExportError
from export.progress import progress_bar
from export.training.checkpoint import Checkpoint
from export.training.heads import Head
from export.training.model import IMAGE_FEATURES, TEXT_FEATURES, build_model
from export.training.presets import BASELINES, Preset, Running


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A model without training, and how to train it.

    Attributes:
        preset: Sizes, epochs, rates and regularisation.
        fusion: One of FUSIONS; or of BASELINES, which have one branch only, without branch losses.
        seed: Decides the order of rows and how they are varied.
        spec: The model's preprocessing.
        vocabulary: One more than the largest token id.
        head: The model's head, with its loss.
        run: How it runs.
    """

    preset: Preset
    fusion: str
    seed: int
    spec: PreprocessingSpec
    vocabulary: int
    head: Head
    run: Running

    def build(self) -> keras.Model:
        """The model."""
        return build_model(self.preset, self.spec, fusion=self.fusion, vocabulary=self.vocabulary, head=self.head)


def strategy(devices: int) -> tf.distribute.Strategy:
    """This number of devices: GPUs if there are enough, otherwise parts of the CPU.

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


def fit(
    plan: Plan,
    replicas: tf.distribute.Strategy,
    arrays: Arrays,
    texts: Sequence[str],
    training: Mapping[str, Any],
    progress: bool | None,
) -> tuple[keras.Model, dict[str, list[float]]]:
    """The trained model, in float32 on one device; and the loss, and any accuracy, of every epoch.

    Args:
        plan: The model.
        replicas: From `strategy`, for the plan's devices.
        arrays: The training rows.
        texts: Their texts, in the same order.
        training: Identifies this training: the checkpoint of another one is refused.
        progress: Whether to draw a progress bar; None draws one on a terminal only.

    Raises:
        ExportError: The checkpoint is damaged or of another training.
        DataError: A streamed image has changed since it was checked.
    """
    precision, devices = plan.run.precision, plan.run.devices
    with replicas.scope(), _computing_in(precision):
        model = plan.build()
        for layer in model._flatten_layers() if devices > 1 else ():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True  # the mean of the whole batch, not of a device's share of it
        history = _fit(plan, model, arrays, texts, training, progress)
    if precision == "float32" and devices == 1:
        return model, history
    weights, model = model.get_weights(), plan.build()
    model.set_weights(weights)
    return model, history


@contextlib.contextmanager
def _computing_in(precision: str) -> Iterator[None]:
    """Layers made inside compute in this precision, and keep their weights in float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _fit(
    plan: Plan,
    model: keras.Model,
    arrays: Arrays,
    texts: Sequence[str],
    training: Mapping[str, Any],
    progress: bool | None,
) -> dict[str, list[float]]:
    preset, head, run = plan.preset, plan.head, plan.run
    trainer = _with_branch_losses(plan, model)
    batches = Batches(
        arrays,
        outputs=tuple(trainer.output),
        batch_size=preset.batch_size,
        shift=round(preset.shift * preset.image_size),
        segmentations=segmentations(texts, plan.spec, preset.segmentations),
        seed=plan.seed,
        least=run.devices,  # a device without a row would divide by zero
    )
    steps = len(batches)
    total = preset.epochs * steps
    _compile(plan, trainer, total)
    checkpoint = Checkpoint(run.checkpoint, training, steps=steps, every=run.checkpoint_every)
    done = checkpoint.step
    if done < total:
        # Left to the first step, these variables could not be restored, and TensorFlow would trace that step twice.
        trainer.optimizer.build(trainer.trainable_variables)
        x, y = ({name: each[:1] for name, each in part.items()} for part in batches.batch(0))
        answers = trainer(x)
        trainer.compute_loss(x, y, answers)
        trainer.compute_metrics(x, y, answers)
    try:
        with progress_bar(None, "Training", progress, unit="step", total=total, initial=done) as bar:
            for first, last in _parts(done, steps, preset.epochs):
                trainer.fit(
                    batches.pipeline(first, last),
                    initial_epoch=first // steps,
                    epochs=-(-last // steps),
                    shuffle=False,  # the pipeline does
                    steps_per_epoch=min(steps, last - first),
                    verbose=0,
                    callbacks=[checkpoint, _ProgressBar(bar, preset.epochs)],
                )
    except tf.errors.OpError as error:
        images: Any = arrays.images
        if isinstance(images, StreamedImages) and images.problem is not None:
            raise images.problem from error
        raise
    if done == total:
        checkpoint.finish(trainer)
    else:
        checkpoint.write()
    # Keras prefixes metrics with the output's name if the model has several outputs.
    keys = {"loss": "loss", **{key: name for name in head.metrics for key in (name, f"{head.name}_{name}")}}
    return {
        keys[key]: [round(value, 4) for value in values] for key, values in checkpoint.history.items() if key in keys
    }


class _ProgressBar(keras.callbacks.Callback):  # type: ignore[misc]
    """Moves one bar over all steps, with the epoch and the loss."""

    def __init__(self, bar: Any, epochs: int) -> None:
        super().__init__()
        self._bar, self._epochs = bar, epochs

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._bar.set_description(f"Training, epoch {epoch + 1} of {self._epochs}", refresh=False)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._bar.set_postfix(loss=f"{(logs or {}).get('loss', float('nan')):.3f}")


def _with_branch_losses(plan: Plan, model: keras.Model) -> keras.Model:
    """The same model with every output that gets a loss, by name."""
    outputs = {plan.head.name: model.output}
    if plan.preset.branch_loss and plan.fusion not in BASELINES:
        # Fused alone, the branch that learns faster (the text, which it memorises) leaves the other nothing
        # to learn. A separate loss keeps each branch learning; its head is discarded afterwards.
        for name in (IMAGE_FEATURES, TEXT_FEATURES):
            outputs[f"{name}_alone"] = plan.head.build(model.get_layer(name).output, f"{name}_alone")
    return keras.Model(model.input, outputs)


def _parts(done: int, steps: int, epochs: int) -> Iterator[tuple[int, int]]:
    """First and last step (exclusive) of the remaining epochs, beginning with an interrupted one."""
    if rest := done % steps:
        yield done, done - rest + steps
        done += steps - rest
    if done < epochs * steps:
        yield done, epochs * steps


def _compile(plan: Plan, trainer: keras.Model, steps: int) -> None:
    preset, head, accumulate = plan.preset, plan.head, plan.run.accumulate
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
