"""Prepares your own Keras model for `export_version`, or lists every reason why it does not fit."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from duoserve import contract
from duoserve.contract import ONE_CLASS, ContractError, PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import Row, encode, in_turn
from export.defaults import BACKGROUND
from export.keras_settings import keras_settings
from export.measures import fitted, measure, shown
from export.own.answer import Answer, adapt, find_answer, predictor
from export.own.assets import check_samples, make_answer, read_labels, read_samples
from export.own.inputs import Inputs, find_inputs
from export.own.loading import load
from export.own.reasons import MisfitError
from export.own.settings import LOGITS, OwnModel, is_function
from export.own.tokenizers import Tokenizer, check_tokenizer, read_tokenizer
from export.own.trial import Array
from export.training.run import TrainedModel

__all__ = ["MisfitError", "Prepared", "prepare"]

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

    Runs the code that `own.model` and `own.custom_objects` name.

    Args:
        own: The user's options.
        progress: Whether to draw progress bars; None draws them on a terminal only.

    Raises:
        MisfitError: Something does not fit; it lists all reasons that were found.
    """
    reasons: list[str] = []
    tokenizer = read_tokenizer(own, reasons)
    labels = read_labels(own, reasons)
    kind, rows = read_samples(own, reasons)
    model = load(own, reasons)
    inputs = None if model is None else find_inputs(model, own, reasons)
    found = None
    if model is not None:
        count = None if labels is None else len(labels)
        found = find_answer(model, inputs, own, reasons, kind=kind, labels=count, ids=tokenizer)
    made = None if labels is None else make_answer(kind if found is None else found.kind, labels, reasons)
    spec, no_bytes = None, ""
    if made is not None:
        check_samples(own, rows, *made, reasons)
    if inputs is not None and tokenizer is not None:
        spec = _spec(inputs, tokenizer, *(made or (ONE_CLASS, ("unknown",))), own, reasons)
    if spec is not None:
        spec, no_bytes = check_tokenizer(spec, [row.text for row in rows], reasons)
    if reasons:
        raise MisfitError(reasons)
    assert inputs is not None and found is not None and spec is not None and tokenizer is not None
    adapted = adapt(found)
    values, targets = _ask(adapted, rows, spec, progress)
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
    return Prepared(TrainedModel(adapted, spec, samples, facts), notes)


def _spec(
    inputs: Inputs,
    tokenizer: Tokenizer,
    answer: contract.Answer,
    labels: tuple[str, ...],
    own: OwnModel,
    reasons: list[str],
) -> PreprocessingSpec | None:
    try:
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
    except ContractError as error:
        reasons.append(str(error))
        return None


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
    follows = f"; a {answer.finish.activation} follows" if answer.what == LOGITS else ""
    golden = min(len(rows), _GOLDEN)
    embedded: tuple[tuple[str, str], ...] = ()
    if answer.features is not None:
        embedded = (("embed", f"the output of layer {own.embed!r}, {answer.features.shape[-1]} numbers"),)
    return (
        ("image", f"input {inputs.image!r}, {inputs.image_dtype}, {size}, pixels as {inputs.scale}"),
        ("background", f"{','.join(map(str, spec.background or ()))} under transparent pixels"),
        ("tokens", f"input {inputs.tokens!r}, {inputs.tokens_dtype}, {tokens}"),
        ("tokenizer", tokenizer.note),
        *((each.kind, f"input {each.name!r}, {each.dtype}, {each.said(spec.pad_id)}") for each in inputs.derived),
        *((("raw input", no_bytes),) if no_bytes else ()),
        ("output", f"{answer.name!r}, {answer.what} of {len(spec.labels)} {spec.answer.columns}{follows}"),
        *embedded,
        ("samples", f"{len(rows)} held-out rows, {shown(spec.answer, metrics)}; {golden} become golden samples"),
    )


def _digests(own: OwnModel) -> dict[str, str]:
    """SHA-256 (hex) of the files that the model came from."""
    files = {"model_sha256": None if is_function(own.model) else Path(own.model), "weights_sha256": own.weights}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items() if path is not None}
