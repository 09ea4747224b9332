"""Writes one version: SavedModel, golden samples, warmup records, card and checksums; then the gate.

All this happens in a staging folder that servers ignore; only a version that passes the gate is
renamed to its number.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from duoserve.artifact.checksums import write_checksums
from duoserve.artifact.releases import SERVER_VERSION, too_new
from duoserve.artifact.samples import GOLDEN_PATH, GoldenSample, dump_samples
from duoserve.artifact.signing import sign_folder
from duoserve.contract import SERVING_DEFAULT, PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import encode_pairs
from export.dataset.rows import Row
from export.defaults import BATCH_SIZES
from export.errors import ExportError
from export.keras_settings import keras_settings
from export.measures import Array
from export.publish.answers import ANSWER, EMBEDDING, Answer, answer_fn, serve
from export.publish.card import CARD_PATH, make_card
from export.publish.checks import Reference
from export.publish.cost import Cost, measure_cost
from export.publish.gate import CheckResult, check, refuse_unless_passed
from export.publish.probes import without_one
from export.publish.session import SessionModel
from export.publish.signatures import write_saved_model
from export.publish.store import ModelStore
from export.publish.warmup import WARMUP_PATH, write_warmup

Run = Callable[[Array, Array], dict[str, Array]]
"""(image, tokens) -> `answer`, and `embedding` where the version has it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """A version in the store: its folder, the spec for its clients, and the results of the gate."""

    path: Path
    spec: PreprocessingSpec
    checks: tuple[CheckResult, ...]


@keras_settings()
def export_version(
    model: keras.Model,
    spec: PreprocessingSpec,
    samples: Sequence[tuple[bytes, str]],
    store: ModelStore,
    *,
    version: int | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    server_version: str = SERVER_VERSION,
    weights: str = "float32",
    as_is: bool = False,
    bfloat16: bool = False,
    held_out: Sequence[Row] = (),
    facts: dict[str, Any] | None = None,
    sign_key: Path | None = None,
    progress: Callable[[CheckResult], Any] = lambda result: None,
) -> Published:
    """Writes a Keras model as the next version, runs the gate and publishes it; nothing after an error.

    Args:
        model: Inputs `image` and `tokens`, output the answer. If it has features for `embed`
            (`export.publish.answers.embedding_length`), the version gets the signature `embed`.
        spec: Its preprocessing; `spec.version` and `spec.embedding_length` are replaced. With `spec.explain_grid`
            the version gets `explain`.
        samples: Encoded images (WAV files, where the model takes audio) and texts that become the golden samples;
            a dozen held-out ones are enough. The first becomes a sample without each optional input too.
        store: The store to publish to.
        version: The number; None: the next one.
        batch_sizes: For the warmup records: the server's `allowed_batch_sizes`.
        server_version: The TensorFlow of the server it is meant for.
        weights: How they are stored: "float32", or in fewer bytes as "float16" or "int8".
        as_is: Whether to write the model's layers unchanged, without the rules of `export.optimise`.
        bfloat16: Whether it is for servers with `--mixed_precision=bfloat16`. The card has the cost of this and of
            smaller weights, and the gate refuses more than `export.publish.cost.LIMITS`.
        held_out: Rows to measure these costs on; without any, they are measured on the samples.
        facts: Facts about the training for the card: metrics, data digest, seed …
        sign_key: PEM file with an elliptic curve private key, to sign the version with.
        progress: Called with each result of the gate.

    Raises:
        SigningError: The key can't be used.
        ExportError: The model does not fit the contract, there are no samples, its weights can't be
            stored in this type, or TensorFlow is newer than the server's.
        ReleaseError: An invalid server version.
        DataError: A held-out row has changed since it was checked.
        GateError: A check failed.
        StoreError: The store can't take the version.
    """
    if not samples:
        raise ExportError("Expected at least one sample, an encoded image and a text. Received: none")
    if finding := too_new(tf.__version__, server_version):
        raise ExportError(f"E{finding[1:]}")
    keras_model = _runner(answer_fn(model, spec))
    served = serve(model, spec, weights=weights, as_is=as_is)  # before a version number is taken
    # The stored weights give the golden answers; the cost is their distance from the model's own.
    reference = keras_model if served.packed is None else _runner(served.answer)
    with store.writing(version) as staging:
        spec = dataclasses.replace(served.spec, version=staging.version)
        golden = _answered(spec, [*samples, *without_one(spec, *samples[0])], reference)
        costs, stored, rows = [], {}, held_out or samples
        if served.packed is not None:
            costs.append(measure_cost(weights, spec, rows, _alone(keras_model), _alone(reference)))
            stored = served.packed.facts | costs[0].facts
        write_saved_model(served, spec, staging.path)
        if bfloat16:
            costs.append(_cost_of_bfloat16(staging.path, spec, rows, _alone(reference)))
        (staging.path / GOLDEN_PATH).parent.mkdir(exist_ok=True)
        (staging.path / GOLDEN_PATH).write_text(dump_samples(golden, spec.answer), encoding="utf-8")
        write_warmup(staging.path / WARMUP_PATH, name=store.name, spec=spec, samples=golden, batch_sizes=batch_sizes)
        card = make_card(
            name=store.name,
            spec=spec,
            server_version=server_version,
            parameters=model.count_params(),
            weights={"type": weights, **stored},
            graph=served.facts | ({"bfloat16": costs[-1].facts} if bfloat16 else {}),
            facts=facts or {},
        )
        (staging.path / CARD_PATH).write_text(card, encoding="utf-8")
        write_checksums(staging.path)
        checks = check(
            staging.path, server_version=server_version, reference=_alone(reference), costs=costs, progress=progress
        )
        refuse_unless_passed(checks, f"version {staging.version} of {store.name}")
        if sign_key is not None:
            sign_folder(staging.path, sign_key)
        return Published(staging.publish(), spec, tuple(checks))


def _runner(answer: Answer) -> Run:
    graph = tf.function(answer, reduce_retracing=True)

    def run(image: Array, tokens: Array) -> dict[str, Array]:
        return {name: tensor.numpy() for name, tensor in graph(tf.constant(image), tf.constant(tokens)).items()}

    return run


def _alone(run: Run) -> Reference:
    return lambda image, tokens: run(image, tokens)[ANSWER]


def _answered(spec: PreprocessingSpec, samples: Sequence[tuple[bytes, str]], run: Run) -> list[GoldenSample]:
    """The samples with the client's tokens and the model's answers."""
    image, tokens = encode_pairs(samples, Preprocessor(spec))
    answers = run(image, tokens)
    embedded = answers.get(EMBEDDING, np.zeros((len(samples), 0)))
    return [
        GoldenSample(
            image_bytes=data if spec.audio is None else b"",
            audio_bytes=data if spec.audio is not None else b"",
            text=text,
            tokens=tuple(row.tolist()),
            values=tuple(answer.tolist()),
            decision=spec.answer.decision(answer, spec.labels),
            embedding=tuple(vector.tolist()),
        )
        for (data, text), row, answer, vector in zip(samples, tokens, answers[ANSWER], embedded, strict=True)
    ]


def _cost_of_bfloat16(
    folder: Path, spec: PreprocessingSpec, rows: Sequence[Row] | Sequence[tuple[bytes, str]], reference: Reference
) -> Cost:
    with SessionModel(folder, bfloat16=True) as model:

        def run(image: Array, tokens: Array) -> Array:
            return model.run(SERVING_DEFAULT, {"image": image, "tokens": tokens})[spec.answer.output]

        found = measure_cost("bfloat16", spec, rows, reference, run)
        black = np.zeros((1, spec.image_height, spec.image_width, 3), np.uint8)
        feeds = {"image": black, "tokens": np.full((1, spec.token_length), spec.pad_id, np.int32)}
        if not model.computes_in(tf.bfloat16, SERVING_DEFAULT, feeds):
            raise ExportError(
                "Expected TensorFlow to compute a part of the model in bfloat16, to measure what it costs. Received:"
                " none, on a processor without AVX-512 or with a model without convolutions and matrix products"
            )
    return found
