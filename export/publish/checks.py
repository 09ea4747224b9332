"""The checks of the gate: each takes a version and yields its findings."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf

from duoserve import contract
from duoserve.artifact.checksums import verify_checksums
from duoserve.artifact.releases import too_new
from duoserve.artifact.samples import GOLDEN_PATH, GoldenSample, load_samples
from duoserve.artifact.signing import verify_signature
from duoserve.contract import PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import encode_pairs
from export.errors import ExportError
from export.measures import Array
from export.publish.cost import Cost
from export.publish.occlusion import relevances
from export.publish.ops import forbidden_ops
from export.publish.probes import probes, without_one
from export.publish.session import SessionModel
from export.publish.warmup import WARMUP_PATH, read_warmup, warmed_up

TOLERANCE: Final = 1e-5
"""Largest difference between the SavedModel's probabilities and the Keras model's; of scores, as a share of the
largest score of the golden samples."""


Reference = Callable[[Array, Array], Array]
"""The Keras model: (image, tokens) -> its answer, float32 array of shape (batch, columns)."""

Check = tuple[str, Callable[["Subject"], Iterator[str]], bool]
"""Name, function, and whether later checks depend on it."""


@dataclasses.dataclass(slots=True)
class Subject:
    """A version's folder. Checks that later ones depend on add its model, its spec and its golden samples."""

    folder: Path
    server_version: str
    reference: Reference | None
    public_keys: Sequence[Path]
    closing: contextlib.ExitStack
    model: SessionModel = dataclasses.field(init=False)
    spec: PreprocessingSpec = dataclasses.field(init=False)
    samples: tuple[GoldenSample, ...] = dataclasses.field(init=False)
    golden: tuple[Array, Array] = dataclasses.field(init=False)
    """Images and tokens of the samples, prepared by the client."""

    def ask(self, image: Array, tokens: Array) -> Array:
        """The answer of `serving_default`."""
        return self.model.run(contract.SERVING_DEFAULT, {"image": image, "tokens": tokens})[self.spec.answer.output]

    @property
    def tolerance(self) -> Array:
        """The tolerance of each column of the answer."""
        expected = np.array([sample.values for sample in self.samples], np.float32)
        return TOLERANCE * self.spec.answer.scale(expected)


# A check yields its findings and, last, a note on what it checked.


def _files(subject: Subject) -> Iterator[str]:
    yield from verify_checksums(subject.folder)
    yield "saved_model.pb, variables and extras match their checksums"


def _signature(subject: Subject) -> Iterator[str]:
    yield from verify_signature(subject.folder, subject.public_keys)
    yield "signed by a trusted key"


def _loads(subject: Subject) -> Iterator[str]:
    subject.model = subject.closing.enter_context(SessionModel(subject.folder))
    yield "by the v1 Session loader, as TensorFlow Serving does"


def _not_newer(subject: Subject) -> Iterator[str]:
    written = subject.model.meta_graph.meta_info_def.tensorflow_version
    if finding := too_new(written, subject.server_version):
        yield finding
    yield f"written by {written} for a server of {subject.server_version}"


def _ops(subject: Subject) -> Iterator[str]:
    yield from forbidden_ops(subject.model.meta_graph, subject.model.meta_graph.signature_def)
    yield "only operations of the stock CPU server; no files, no Python, no cuDNN"


def _contract(subject: Subject) -> Iterator[str]:
    subject.spec = subject.model.describe()
    number = subject.folder.name
    if number.isdigit() and int(number) != subject.spec.version:
        yield f"describe: expected version {number}, the name of the folder. Received: {subject.spec.version}"
    signatures = contract.signatures(subject.spec)
    for signature in signatures.values():
        found = subject.model.meta_graph.signature_def[signature.name]
        for kind, wanted, received in (
            ("input", signature.inputs, found.inputs),
            ("output", signature.outputs, found.outputs),
        ):
            expected = {tensor.name: str(tensor) for tensor in wanted}
            actual = {key: str(_tensor_spec(key, info)) for key, info in received.items()}
            for key in sorted(expected.keys() | actual.keys()):
                if expected.get(key) != actual.get(key):
                    yield (
                        f"{signature.name}, {kind} {key!r}: expected {expected.get(key, 'none')}."
                        f" Received: {actual.get(key, 'none')}"
                    )
    yield f"{len(signatures)} signatures; digest {subject.spec.digest[:12]}"


def _golden(subject: Subject) -> Iterator[str]:
    subject.samples = load_samples((subject.folder / GOLDEN_PATH).read_bytes())
    expected = np.array([sample.values for sample in subject.samples], np.float32)
    image, tokens = subject.golden = _encode(subject, _pairs(subject))
    for position, sample in enumerate(subject.samples):
        if tuple(tokens[position]) != sample.tokens:
            yield f"sample {position}: expected the token ids {sample.tokens}. Received: {tuple(tokens[position])}"
    yield from _differences(subject, "serving_default", expected, subject.ask(image, tokens))
    yield f"{len(subject.samples)} samples give the answers recorded at export, within {TOLERANCE}"


def _keras(subject: Subject) -> Iterator[str]:
    if subject.reference is None:
        yield "skipped: the Keras model is not available; the golden samples have its answers"
        return
    image, tokens = _odd_rows(*subject.golden, subject.spec.pad_id)
    records = read_warmup(subject.folder / WARMUP_PATH)
    warm = {each.inputs["tokens"].tensor_shape.dim[0].size for each in records if "tokens" in each.inputs}
    sizes = sorted(warm | {3})
    for rows in sizes:
        chosen = np.resize(np.arange(len(image)), rows)
        expected = subject.reference(image[chosen], tokens[chosen])
        yield from _differences(subject, f"batch of {rows}", expected, subject.ask(image[chosen], tokens[chosen]))
    found = ", ".join(map(str, sizes))
    yield f"equals the Keras model at batch sizes {found}, also without tokens and full of them, within {TOLERANCE}"


def _odd_rows(image: Array, tokens: Array, pad_id: int) -> tuple[Array, Array]:
    """The rows, with those first that test layers which read tokens one by one."""
    ids = tokens[tokens != pad_id]
    full = np.resize(ids if ids.size else np.int32(pad_id), tokens.shape[1])
    holes = np.where(np.arange(len(full)) % 3 == 1, pad_id, full)
    odd = np.stack([tokens[0], full, np.full_like(full, pad_id), holes])
    return np.concatenate([image[np.resize(np.arange(len(image)), 4)], image]), np.concatenate([odd, tokens])


def _embed(subject: Subject) -> Iterator[str]:
    length = subject.spec.embedding_length
    if not length:
        yield "skipped: the version has no such signature"
        return
    image, tokens = subject.golden
    expected = np.array([sample.embedding for sample in subject.samples], np.float32)
    received = subject.model.run(contract.EMBED, {"image": image, "tokens": tokens})["embedding"]
    alone = subject.model.run(contract.EMBED, {"image": image[:1], "tokens": tokens[:1]})["embedding"]
    yield from _off("embed", "vectors", expected, received, TOLERANCE)
    yield from _off("embed of one row alone", "vectors", expected[:1], alone, TOLERANCE)
    lengths = np.linalg.norm(received, axis=1)
    for row in np.flatnonzero((np.abs(lengths - 1) > TOLERANCE) & received.any(axis=1)):
        yield f"embed, row {row}: expected a vector of length 1. Received: {lengths[row]:.6f}"
    yield f"vectors of {length} numbers equal the Keras model's on {len(image)} samples, within {TOLERANCE}"


def _explain(subject: Subject) -> Iterator[str]:
    if subject.spec.explain_grid is None:
        yield "skipped: the version has no such signature"
        return
    preprocessor = Preprocessor(subject.spec)
    image, tokens = (rows[[0, -1]] for rows in subject.golden)
    feeds = {"image": image, "tokens": tokens, "class_id": np.full(2, -1, np.int32)}
    received = subject.model.run(contract.EXPLAIN, feeds)
    expected = [relevances(subject.ask, preprocessor, *row) for row in zip(image, tokens, strict=True)]
    for name in expected[0]:
        wanted = np.stack([each[name] for each in expected])
        # These are differences of two answers, each within the tolerance.
        yield from _off("explain", name, wanted, received[name], 2 * subject.tolerance.max())
    yield "relevances equal the change of the model's answer without each patch, word and input"


def _parity(subject: Subject) -> Iterator[str]:
    spec, answer = subject.spec, subject.spec.answer
    if not spec.serving_bytes:
        yield f"skipped: no such signature, as the graph has no equivalent of its {spec.tokenizer_kind} tokenizer"
        return
    odd = [each for data, text in probes(spec) for each in ((data, text), *without_one(spec, data, text))]
    pairs = [*_pairs(subject), *odd]
    raw = {
        spec.bytes_input: np.array([data for data, _ in pairs], object),
        "text": np.array([text.encode("utf-8") for _, text in pairs], object),
    }
    by_tensors = subject.ask(*_encode(subject, pairs))
    by_bytes = subject.model.run(contract.SERVING_BYTES, raw)
    yield from _differences(subject, "serving_bytes", by_tensors, by_bytes[answer.output])
    if answer.decided is not None:
        for position, (row, text) in enumerate(zip(by_bytes[answer.output], by_bytes[answer.decided], strict=True)):
            expected, received = answer.decision(row, spec.labels), text.decode("utf-8")
            if received != expected:
                what = f"{answer.decided} {expected!r}"
                yield f"serving_bytes, sample {position}: expected {what}. Received: {received!r}"
    yield f"in-graph and client preprocessing agree on {len(pairs)} rows, unusual ones included"


def _warmup(subject: Subject) -> Iterator[str]:
    requests = read_warmup(subject.folder / WARMUP_PATH)
    seen = set()
    for position, request in enumerate(requests):
        feeds = {key: tf.make_ndarray(proto) for key, proto in request.inputs.items()}
        seen.add((request.model_spec.signature_name, max(array.shape[0] for array in feeds.values())))
        try:
            subject.model.run(request.model_spec.signature_name, feeds)
        except ExportError as error:
            yield f"record {position}: {error}"
    names = contract.signatures(subject.spec).keys()
    sizes = {rows for _, rows in seen}
    for name, rows in sorted({(each, rows) for each in names for rows in warmed_up(each, sizes)} - seen):
        yield f"expected a record for each signature at each batch size. Received: none for {name} of {rows} row(s)"
    smallest = f"; explain at {min(sizes)}" if contract.EXPLAIN in names and len(sizes) > 1 else ""
    yield f"{len(requests)} records run: every signature at batch sizes {', '.join(map(str, sorted(sizes)))}{smallest}"


def cost_check(cost: Cost) -> Check:
    """Whether a measured cost is within its limit."""

    def found(subject: Subject) -> Iterator[str]:
        yield from cost.findings()
        yield str(cost)

    return "bfloat16" if cost.kind == "bfloat16" else "weights", found, False


CHECKS: Final[tuple[Check, ...]] = (
    ("files", _files, False),
    ("loads", _loads, True),
    ("not newer", _not_newer, False),
    ("operations", _ops, False),
    ("contract", _contract, True),
    ("golden", _golden, True),
    ("keras", _keras, False),
    ("embed", _embed, False),
    ("explain", _explain, False),
    ("parity", _parity, False),
    ("warmup", _warmup, False),
)
SIGNED: Final[Check] = ("signature", _signature, False)


def _pairs(subject: Subject) -> list[tuple[bytes, str]]:
    return [(sample.encoded, sample.text) for sample in subject.samples]


def _encode(subject: Subject, pairs: Iterable[tuple[bytes, str]]) -> tuple[Array, Array]:
    return encode_pairs(pairs, Preprocessor(subject.spec))


def _differences(subject: Subject, what: str, expected: Array, received: Array) -> Iterator[str]:
    answer, labels = subject.spec.answer, subject.spec.labels
    yield from _off(what, answer.output, expected, received, subject.tolerance)
    if expected.shape == received.shape and np.isfinite(received).all():
        for row, (wanted, found) in enumerate(zip(expected, received, strict=True)):
            if not answer.same(wanted, found, TOLERANCE):
                texts = [answer.decision(values, labels) for values in (wanted, found)]
                yield f"{what}, row {row}: expected {answer.decided} {texts[0]!r}. Received: {texts[1]!r}"


def _off(what: str, name: str, expected: Array, received: Array, tolerance: float | Array) -> Iterator[str]:
    if expected.shape != received.shape:
        yield f"{what}: expected {name} of shape {expected.shape}. Received: {received.shape}"
        return
    if not np.isfinite(received).all():
        yield f"{what}: expected finite {name}. Received: NaN or infinity"
        return
    off = np.abs(expected - received).reshape(len(expected), -1)
    for row in np.flatnonzero((off > tolerance).any(axis=1)):
        limit = f"{np.max(tolerance):.3g}"
        yield f"{what}, row {row}: expected {name} within {limit}. Received: {off[row].max():.2g} off"


def _tensor_spec(key: str, info: Any) -> contract.TensorSpec:
    dims = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    return contract.TensorSpec(key, tf.dtypes.as_dtype(info.dtype).name, dims)
