"""Prepares your own Keras model for `export_version`, or lists every reason why it does not fit."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from duoserve import contract
from duoserve.artifact.checksums import sha256
from duoserve.contract import ONE_CLASS, PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import encode, in_turn
from export.dataset.rows import Row
from export.defaults import BACKGROUND
from export.keras_settings import keras_settings
from export.measures import Array, fitted, measure, shown
from export.own.answer import Answer, find_answer, predictor
from export.own.assets import check_samples, make_answer, read_labels, read_samples
from export.own.inputs import Inputs, find_inputs
from export.own.loading import load
from export.own.reasons import Reasons
from export.own.settings import OwnModel, is_function
from export.own.tokenizers import Tokenizer, check_tokenizer, read_tokenizer
from export.training.run import TrainedModel

_GOLDEN: Final = 16
_MEASURED_AT_ONCE: Final = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A model that fits.

    Attributes:
        trained: The model with the contract's inputs and output, and everything that exporting it takes.
        notes: How it was understood, as text: image, tokens, output, samples.
    """

    trained: TrainedModel
    notes: tuple[tuple[str, str], ...]


@keras_settings()
def prepare(own: OwnModel, *, progress: bool | None = None) -> Prepared:
    """Loads the model with its tokenizer, labels and samples, and adapts it to the contract.

    Runs the code that `own.model` and `own.custom_objects` name. Draws progress bars: None on a terminal only.

    Raises:
        MisfitError: Something does not fit; it lists all reasons that were found.
    """
    reasons = Reasons()
    tokenizer = reasons.attempt(read_tokenizer, own)
    labels = reasons.attempt(read_labels, own)
    kind, rows = reasons.attempt(read_samples, own) or (own.answer, ())
    model = reasons.attempt(load, own)
    inputs = found = made = spec = None
    if model is not None:
        inputs = reasons.attempt(find_inputs, model, own)
        count = None if labels is None else len(labels)
        found = reasons.attempt(find_answer, model, inputs, own, kind=kind, labels=count, ids=tokenizer)
    kind = kind if found is None else found.kind
    if labels is not None and kind is not None:
        made = reasons.attempt(make_answer, kind, labels)
    if made is not None:
        reasons.attempt(check_samples, own, rows, *made)
    if inputs is not None and tokenizer is not None:
        spec = reasons.attempt(_spec, inputs, tokenizer, *(made or (ONE_CLASS, ("unknown",))), own)
    if spec is not None:
        checked = reasons.attempt(check_tokenizer, spec, [row.text for row in rows])
    reasons.refuse()
    assert inputs is not None and found is not None and checked is not None and tokenizer is not None
    spec, no_bytes = checked
    values, targets = _ask(found.model, rows, spec, progress)
    metrics = measure(spec.answer, spec.labels, values, targets)
    spec = dataclasses.replace(spec, answer=fitted(spec.answer, values, targets))
    notes = _notes(own, inputs, found, spec, rows, metrics, tokenizer, no_bytes)
    facts = {
        "own_model": own.model if is_function(own.model) else Path(own.model).name,
        **_digests(own),
        "understood": dict(notes),
        "answer": spec.answer.kind,
        "rows": {"test": len(rows)},
        "metrics": metrics,
    }
    samples = tuple((row.image.read_bytes(), row.text) for row in in_turn(rows, _GOLDEN))
    return Prepared(TrainedModel(found.model, spec, samples, facts), notes)


def _spec(
    inputs: Inputs, tokenizer: Tokenizer, answer: contract.Answer, labels: tuple[str, ...], own: OwnModel
) -> PreprocessingSpec:
    return PreprocessingSpec(
        image_height=inputs.height,
        image_width=inputs.width,
        token_length=inputs.token_length,
        tokenizer=tokenizer.data,
        labels=labels,
        version=1,
        pad_id=tokenizer.pad_id,
        optional=own.optional,
        answer=answer,
        background=own.background or BACKGROUND,
        tokenizer_kind=tokenizer.kind,
    )


def _ask(
    model: keras.Model, rows: tuple[Row, ...], spec: PreprocessingSpec, progress: bool | None
) -> tuple[Array, Array]:
    """The answers to the held-out rows, and the right ones: they reveal wrong scaling or tokenisation."""
    arrays = encode(rows, Preprocessor(spec), progress=progress, description="Preparing held-out rows")
    predict = predictor(model)
    parts = [slice(start, start + _MEASURED_AT_ONCE) for start in range(0, len(rows), _MEASURED_AT_ONCE)]
    return np.concatenate([predict(arrays.images[part], arrays.tokens[part]) for part in parts]), arrays.targets


def _notes(
    own: OwnModel,
    inputs: Inputs,
    answer: Answer,
    spec: PreprocessingSpec,
    rows: tuple[Row, ...],
    metrics: Mapping[str, Any],
    tokenizer: Tokenizer,
    no_bytes: str,
) -> tuple[tuple[str, str], ...]:
    size = f"{inputs.height}x{inputs.width}"
    tokens = f"{inputs.token_length} ids of {tokenizer.ids}, padded with {spec.pad_id}"
    follows = f"; a {answer.follows} follows" if answer.follows else ""
    golden = min(len(rows), _GOLDEN)
    embedded = f"the output of layer {own.embed!r}, {answer.embedded} numbers" if answer.embedded else ""
    notes = (
        ("image", f"input {inputs.image!r}, {inputs.image_dtype}, {size}, pixels as {inputs.scale}"),
        ("background", f"{','.join(map(str, spec.background or ()))} under transparent pixels"),
        ("tokens", f"input {inputs.tokens!r}, {inputs.tokens_dtype}, {tokens}"),
        ("tokenizer", tokenizer.note),
        *((each.kind, f"input {each.name!r}, {each.dtype}, {each.said(spec.pad_id)}") for each in inputs.derived),
        ("raw input", no_bytes),
        ("output", f"{answer.name!r}, {answer.what} of {len(spec.labels)} {spec.answer.columns}{follows}"),
        ("embed", embedded),
        ("samples", f"{len(rows)} held-out rows, {shown(spec.answer, metrics)}; {golden} become golden samples"),
    )
    return tuple((what, note) for what, note in notes if note)


def _digests(own: OwnModel) -> dict[str, str]:
    """SHA-256 (hex) of the files that the model came from."""
    files = {"model_sha256": None if is_function(own.model) else Path(own.model), "weights_sha256": own.weights}
    return {name: sha256(path) for name, path in files.items() if path is not None}
