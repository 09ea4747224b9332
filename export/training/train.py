"""Trains a model on a dataset. The same seed on the same machine gives the same weights.

For this, every draw (weights, dropout, order of rows, shifted images, tokenisations) comes from
the seed, SentencePiece trains in one thread, and TensorFlow's deterministic operations are enabled.
That last switch can't be undone: it stays on for the process.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from duoserve.contract import AUDIO, AudioSpec, PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.batches import steps
from export.dataset.clips import golden_recording, spectrogram_size
from export.dataset.data import Arrays, Dataset, encode, in_turn, stream
from export.dataset.rows import Row
from export.defaults import BACKGROUND
from export.errors import ExportError
from export.keras_settings import keras_settings
from export.measures import fitted, measure
from export.training.fit import Plan, fit, strategy
from export.training.heads import head as head_of
from export.training.missing import check_optional, without
from export.training.presets import BASELINES, PRESETS, Preset, Running
from export.training.run import TrainedModel
from export.training.tokenizer import PAD_ID, train_tokenizer

_SAMPLES: Final = 16


@keras_settings()
def train(
    dataset: Dataset,
    *,
    preset: str | Preset = "compact",
    fusion: str = "concat",
    seed: int = 0,
    epochs: int | None = None,
    optional: Sequence[str] = (),
    background: tuple[int, int, int] = BACKGROUND,
    run: Running | None = None,
    progress: bool | None = None,
) -> TrainedModel:
    """Trains on the training rows and measures on the held-out ones, which are used for nothing else.

    Args:
        dataset: From `load_dataset`.
        preset: Name of a preset, or your own preset.
        fusion: One of `export.training.presets.FUSIONS`; or of BASELINES, one input alone, for comparison.
        seed: The same seed gives the same model.
        epochs: Passes over the training rows; None: the preset's.
        optional: Inputs that may be missing in a call: "image", "text", or both (never
            in one row). The facts then have the figures without each under `missing`.
        background: Red, green and blue, 0-255, on which transparent pixels are composited.
        run: Precision, devices, checkpoints … None: float32 on one device, without checkpoints.
        progress: Whether to draw progress bars; None draws them on a terminal only.

    Raises:
        ExportError: No such preset, fusion or optional input, epochs, seed, devices or accumulate out of range, a
            checkpoint that can't be continued, or a training that diverged.
        TokenizerError: A tokenizer can't be trained on the training texts.
        DataError: An image has changed since the dataset was loaded.
    """
    started = time.monotonic()
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise ExportError(f"Expected preset to be one of {', '.join(PRESETS)}. Received: {preset!r}")
        preset = PRESETS[preset]
    if epochs is not None:
        preset = dataclasses.replace(preset, epochs=epochs)
    if preset.epochs < 1:
        raise ExportError(f"Expected at least one epoch. Received: {preset.epochs}")
    if not 0 <= seed < 1 << 32:
        raise ExportError(f"Expected seed between 0 and {(1 << 32) - 1}. Received: {seed}")
    optional = check_optional(optional, dropout=preset.modality_dropout)
    if optional and fusion in BASELINES:
        raise ExportError(f"Expected a fusion of two inputs where one may be missing. Received: {fusion!r}")
    run = run or Running()
    rows, held_out = dataset.select("train"), dataset.select("test")
    if run.devices > preset.batch_size:
        raise ExportError(f"Expected at most {preset.batch_size} devices, rows of a batch. Received: {run.devices}")
    total = preset.epochs * steps(len(rows), preset.batch_size, run.devices)
    if run.accumulate > total:
        raise ExportError(f"Expected accumulate to be at most {total}, all batches. Received: {run.accumulate}")
    replicas = strategy(run.devices)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()

    preprocessor = _preprocessor(dataset, rows, preset, optional, background)
    spec = preprocessor.spec
    if run.stream:
        arrays = stream(rows, preprocessor)
    else:
        arrays = encode(rows, preprocessor, progress=progress, description="Preparing training rows")
    tests = encode(held_out, preprocessor, progress=progress, description="Preparing held-out rows")
    settings = {
        "preset": preset.name,
        "fusion": fusion,
        "seed": seed,
        "settings": dataclasses.asdict(preset),
        "data_digest": dataset.digest,
        "answer": dataset.answer.kind,
        "optional": list(optional),
        "background": list(spec.background) if spec.background else None,
        "running": {"precision": run.precision, "accumulate": run.accumulate, "devices": run.devices},
    }
    head = head_of(spec.answer, arrays.targets)
    plan = Plan(preset, fusion, seed, spec, preprocessor.vocabulary_size, head, run)
    model, history = fit(plan, replicas, arrays, [row.text for row in rows], settings, progress)
    values = _ask(model, tests)
    metrics = measure(spec.answer, spec.labels, values, tests.targets)
    if not np.isfinite(metrics["loss"]):
        raise ExportError("Expected training to converge. Received: a loss that is not a number")
    spec = dataclasses.replace(spec, answer=fitted(spec.answer, values, tests.targets))
    return TrainedModel(
        model=model,
        spec=spec,
        samples=tuple((_sample(row, spec), row.text) for row in in_turn(held_out, _SAMPLES)),
        facts={
            **settings,
            "rows": {"train": len(rows), "test": len(held_out)},
            "metrics": metrics,
            "missing": {
                name: measure(spec.answer, spec.labels, _ask(model, without(tests, name, PAD_ID)), tests.targets)
                for name in optional
            },
            "history": history,
            "seconds": round(time.monotonic() - started, 1),
        },
    )


def _preprocessor(
    dataset: Dataset, rows: Sequence[Row], preset: Preset, optional: tuple[str, ...], background: tuple[int, int, int]
) -> Preprocessor:
    audio = AudioSpec() if dataset.medium == AUDIO else None
    height = width = preset.image_size
    if audio is not None:
        height, width = spectrogram_size((row.image for row in rows), audio, preset.image_size)
    spec = PreprocessingSpec(
        image_height=height,
        image_width=width,
        token_length=preset.most_tokens,
        tokenizer=train_tokenizer((row.text for row in rows), vocabulary=preset.vocabulary),
        labels=dataset.labels,
        version=1,
        pad_id=PAD_ID,
        optional=optional,
        audio=audio,
        background=background if audio is None else None,
        answer=dataset.answer,
    )
    preprocessor = Preprocessor(spec)
    lengths = [np.count_nonzero(preprocessor.tokens(row.text) != PAD_ID) for row in rows]
    enough = int(np.ceil(np.quantile(lengths, 0.99) / 8)) * 8
    return Preprocessor(dataclasses.replace(spec, token_length=min(max(enough, 8), preset.most_tokens)))


def _ask(model: keras.Model, tests: Arrays) -> np.ndarray[Any, Any]:
    """float32 array of shape (rows, columns): the answers."""
    parts = [
        model({"image": tests.images[start : start + 64], "tokens": tests.tokens[start : start + 64]}, training=False)
        for start in range(0, len(tests.tokens), 64)
    ]
    return np.concatenate([part.numpy() for part in parts])


def _sample(row: Row, spec: PreprocessingSpec) -> bytes:
    data = row.image.read_bytes()
    return data if spec.audio is None else golden_recording(data, spec)
