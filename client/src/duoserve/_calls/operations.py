"""The methods of both clients as steps: options, records, canary, shadow and batches. No I/O.

`Client` performs the steps by blocking, `AsyncClient` by awaiting; signatures and docstrings are these.
"""

import dataclasses
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from duoserve._calls import inputs as _inputs
from duoserve._calls.batches import Batches
from duoserve._calls.effects import Background, Offload, Steps
from duoserve._calls.embed_explain import EmbedExplain
from duoserve._calls.inputs import Row, SendMode
from duoserve._calls.observing import Context, Observers
from duoserve._calls.retrying import Rpc
from duoserve._calls.version_follower import VersionFollower
from duoserve._checks import Target, check_metadata, expect_kind, expect_name, timeout_seconds
from duoserve._wire.messages import Outputs, VersionStatus
from duoserve.contract import PreprocessingSpec, SignatureSpec
from duoserve.errors import DuoserveError, InvalidInput, UnsupportedModel
from duoserve.explanation import Explanation
from duoserve.observe import CallRecord
from duoserve.preprocessing.audio import AudioSource, Clip, as_clip
from duoserve.preprocessing.images import ImageSource
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.results import BatchResult, Embedding, EmbeddingBatch, Prediction, Sent, TensorPrediction
from duoserve.routing import Canary, Shadow, ShadowTally

Metadata = Sequence[tuple[str, str]]
Pairs: TypeAlias = Iterable[tuple[ImageSource | Clip | None, str | None]]


@dataclasses.dataclass(eq=False)
class Operations:
    """The calls of one client, whose options have been checked."""

    rpc: Rpc
    server: str
    model: str
    target: Target
    timeout: float
    send: SendMode
    max_batch_size: int
    canary: Canary | None
    shadow: Shadow | None
    observers: Observers

    def __post_init__(self) -> None:
        self.tally = ShadowTally()
        self._follower = VersionFollower(self.rpc, self.server, self.model)
        self._embed_explain = EmbedExplain(self._follower)
        self._batches = Batches[Prediction](self._follower, self._predict_rows, self.max_batch_size)
        self._embeddings = Batches[Embedding](self._follower, self._embed_explain.embed_rows, self.max_batch_size)

    def predict(
        self,
        image: ImageSource | Clip | None = None,
        text: str | None = None,
        *,
        audio: AudioSource | None = None,
        key: str | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Steps[Prediction]:
        """Predicts for one image (or clip) with its text, or for one of them alone if the version allows it.

        Args:
            image: A path, the bytes of a JPEG, PNG or WebP, a binary file object, a uint8 array of shape
                (height, width, 3), RGB, 0-255, of any size, or a PIL image. None when there is none.
            text: Any text except an empty one. None when there is none.
            audio: In place of an image, where the model takes clips: a path, the bytes of a WAV,
                FLAC or OGG, a binary file object, or a Clip(samples, sample_rate).
            key: Calls with the same key go to the same side of a canary.
            timeout: Seconds, in place of the client's.
            metadata: Pairs to send with the call.

        Raises:
            InvalidInput: Refused before anything was sent.
            UnsupportedModel: The version takes clips and got an image, or the reverse; or an input is missing,
                and is not among `describe().optional`, those that may be missing.
            DuoserveError: The call failed: see `duoserve.errors`.
        """
        target, fallback = self._route(key)
        with self._begin("predict", timeout, metadata, target) as context:
            row = yield from self._read(image, text, audio)
            try:
                found = yield from self._predict_one(context, target, row)
            except DuoserveError as error:
                if not fallback or isinstance(error, InvalidInput):
                    raise
                context.record.target = self.target
                found = yield from self._predict_one(context, self.target, row)
            yield from self._copy([(row, found)])
            return found

    def predict_batch(
        self, pairs: Pairs, *, key: str | None = None, timeout: float | None = None, metadata: Metadata = ()
    ) -> Steps[BatchResult]:
        """Predicts for many images with their texts, in parallel requests; the order is kept.

        None stands for an image or a text that is missing, as in `predict`; Clip(audio) for a clip.
        A row that fails does not fail the others: reading it from the result raises its error. `key` and `timeout`
        apply to the whole batch.
        """
        expect_kind("pairs", pairs, Iterable, "pairs (image or Clip, text)")
        found = list(pairs)
        target, fallback = self._route(key)
        after = None if self.shadow is None else self._copy
        with self._begin("predict_batch", timeout, metadata, target, len(found)) as context:
            try:
                outcomes = yield from self._batches.answer(
                    context, (target, self.target) if fallback else (target,), found, self.send, after
                )
            except DuoserveError as error:
                if not fallback or isinstance(error, InvalidInput):
                    raise
                context.record.target = self.target
                outcomes = yield from self._batches.answer(context, (self.target,), found, self.send, after)
            return BatchResult(outcomes)

    def embed(
        self,
        image: ImageSource | Clip | None = None,
        text: str | None = None,
        *,
        audio: AudioSource | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Steps[Embedding]:
        """Makes a vector of one image (or clip) and its text, for search and for finding duplicates.

        Takes the same input as `predict`. It is sent as tensors, and never to a canary: vectors of
        two versions can't be compared.

        Raises:
            UnsupportedModel: As `predict`; or the version has no signature `embed`.
            InvalidInput, DuoserveError: As `predict`.
        """
        with self._begin("embed", timeout, metadata) as context:
            row = yield from self._read(image, text, audio)
            (found,) = yield from self._embed_explain.embed_rows(context, self.target, [row])
            assert isinstance(found, Embedding)  # one row fails by raising
            return found

    def embed_batch(
        self, pairs: Pairs, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> Steps[EmbeddingBatch]:
        """Makes vectors of many images with their texts, in parallel requests; the order is kept.

        Takes the same input as `predict_batch`, and treats failed rows as it does. All vectors are of one version:
        the one that the label names when the call begins, even if another is rolled out meanwhile.

        Raises:
            UnsupportedModel, InvalidInput, DuoserveError: As `embed`, if no row could be sent.
        """
        expect_kind("pairs", pairs, Iterable, "pairs (image or Clip, text)")
        found = list(pairs)
        with self._begin("embed_batch", timeout, metadata, rows=len(found)) as context:
            version = yield from self._embed_explain.embedding_version(context, self.target)
            return EmbeddingBatch((yield from self._embeddings.answer(context, (version,), found, "tensors", None)))

    def explain(
        self,
        image: ImageSource | Clip | None = None,
        text: str | None = None,
        *,
        label: str | None = None,
        audio: AudioSource | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Steps[Explanation]:
        """Explains which parts of the image and which words decided, and how much each input counts.

        The version leaves out each part (of a clip: of its spectrogram) in turn and answers again, about a hundred
        times, many at once: it takes several times as long as `predict`. Takes the same input as `predict`, sent as
        tensors, and explains the answer of the client's own label or version, never of a canary.

        Args:
            label: The class, tag or score to explain; None: the most probable one (or the first score).
            image, text, audio, timeout, metadata: As for `predict`.

        Raises:
            UnsupportedModel: As `predict`; or the version was exported without `--explain`, or has no such class.
            InvalidInput, DuoserveError: As `predict`.
        """
        if label is not None:
            expect_kind("label", label, str, "a str")
        with self._begin("explain", timeout, metadata) as context:
            row = yield from self._read(image, text, audio)
            return (yield from self._embed_explain.explain(context, self.target, row, label))

    def predict_tensors(
        self,
        image: npt.NDArray[Any],
        tokens: npt.NDArray[Any],
        preprocessor: Preprocessor,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Steps[TensorPrediction]:
        """Predicts for tensors from `preprocessor` (see the method of that name).

        Args:
            image: uint8 array of shape (batch, height, width, 3), RGB, 0-255.
            tokens: int32 array of shape (batch, token_length).
            preprocessor: The one that prepared them. A version that needs them prepared differently
                raises SpecChanged instead of giving a wrong answer.
        """
        expect_kind("preprocessor", preprocessor, Preprocessor, "a Preprocessor")
        with self._begin("predict_tensors", timeout, metadata) as context:
            found = yield from self._follower.predict_tensors(context, self.target, image, tokens, preprocessor)
            context.record.rows = len(found.values)
            return found

    def run(
        self,
        signature: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        *,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Steps[Outputs]:
        """Runs any signature of any model with unchanged, unchecked tensors.

        Args:
            signature: Name of the signature.
            inputs: Arrays by input name; strings as object arrays of bytes or str.
            outputs: Names of the outputs to return; empty: all.
        """
        expect_name("signature", signature)
        expect_kind("inputs", inputs, Mapping, "a mapping of arrays by input name")
        if isinstance(outputs, str):
            raise InvalidInput("Expected outputs to be names of outputs. Received: one str")
        expect_kind("outputs", outputs, Sequence, "names of outputs")
        for name in (*inputs, *outputs):
            expect_name("a name of inputs or outputs", name)
        for name, array in inputs.items():
            expect_kind(f"input {name:.80}", array, (np.ndarray, np.generic), "a numpy array")
        with self._begin("run", timeout, metadata) as context:
            context.record.sent = "tensors"
            return (yield from self._follower.run(context, self.target, signature, inputs, outputs))

    def preprocessor(self, *, timeout: float | None = None, metadata: Metadata = ()) -> Steps[Preprocessor]:
        """The preprocessor for the version that is served now.

        Versions that prepare input in the same way share one: its `spec.version` can be an earlier one's.
        """
        with self._begin("describe", timeout, metadata) as context:
            found, _ = yield from self._follower.describe(context, self.target)
            return found

    def describe(self, *, timeout: float | None = None, metadata: Metadata = ()) -> Steps[PreprocessingSpec]:
        """The spec of the version that is served now, fetched again."""
        with self._begin("describe", timeout, metadata) as context:
            found, version = yield from self._follower.describe(context, self.target)
            return dataclasses.replace(found.spec, version=version)

    def status(self, *, timeout: float | None = None, metadata: Metadata = ()) -> Steps[list[VersionStatus]]:
        """The states of the model's versions on one of the servers, newest first."""
        with self._begin("status", timeout, metadata) as context:
            return (yield from self._follower.status(context, self.target))

    def signatures(self, *, timeout: float | None = None, metadata: Metadata = ()) -> Steps[dict[str, SignatureSpec]]:
        """The signatures of the version that is served now, by name."""
        with self._begin("signatures", timeout, metadata) as context:
            return (yield from self._follower.signatures(context, self.target))

    def _route(self, key: str | None) -> tuple[Target, bool]:
        """Which label or version to ask, and whether to fall back to the client's own."""
        if key is not None:
            expect_kind("key", key, str, "a str")
        if self.canary is not None and self.canary.takes(key):
            return self.canary.target, self.canary.fallback
        return self.target, False

    def _begin(
        self, operation: str, timeout: float | None, metadata: Metadata, target: Target = None, rows: int = 1
    ) -> Context:
        record = CallRecord(operation, self.server, self.model, self.target if target is None else target, rows=rows)
        seconds = self.timeout if timeout is None else timeout_seconds(timeout)
        return Context(self.observers, record, seconds, check_metadata(metadata) if metadata != () else ())

    def _read(self, image: ImageSource | Clip | None, text: str | None, audio: AudioSource | None) -> Steps[Row]:
        if image is not None and audio is not None:
            raise InvalidInput("Expected an image or audio. Received: both")
        source = image if audio is None else as_clip(audio)
        if source is None or isinstance(source, (bytes, np.ndarray)):  # nothing to wait for
            return _inputs.read_row(source, text)
        found: Row = yield Offload(lambda: _inputs.read_row(source, text))
        return found

    def _predict_one(self, context: Context, target: Target, row: Row) -> Steps[Prediction]:
        expected = yield from self._follower.expected(context, target)
        sent = _inputs.choose(row, expected.spec, self.send)
        outcomes = yield from self._predict_rows(context, target, [row], sent)
        if isinstance(outcomes[0], DuoserveError):
            raise outcomes[0]
        return outcomes[0]

    def _predict_rows(
        self, context: Context, target: Target, rows: Sequence[Row], sent: Sent
    ) -> Steps[list[Prediction | DuoserveError]]:
        """One request for all rows; as tensors if the label has moved to a version that accepts no bytes."""
        try:
            return (yield from self._follower.predict_rows(context, target, rows, sent))
        except UnsupportedModel:
            if sent == "tensors" or self.send == "bytes":
                raise
            found, _ = yield from self._follower.describe(context, target)
            if found.spec.serving_bytes:
                raise
        return (yield from self._follower.predict_rows(context, target, rows, "tensors"))

    def _copy(self, answered: Sequence[tuple[Row, Prediction]]) -> Steps[None]:
        """Sends a share of the answered rows to the shadow too, in the background."""
        if (shadow := self.shadow) is None:
            return
        taken = [pair for pair in answered if random.random() * 100 < shadow.percent]  # noqa: S311 -- a share
        if not taken:
            return
        self.tally.sent(len(taken))
        if not (yield Background(self._compare(shadow, taken), shadow.max_pending)):
            self.tally.ended("dropped", len(taken))

    def _compare(self, shadow: Shadow, pairs: Sequence[tuple[Row, Prediction]]) -> Steps[None]:
        rows = [row for row, _ in pairs]
        outcomes: Sequence[Prediction | DuoserveError]
        try:
            with self._begin("shadow", None, (), shadow.target, len(rows)) as context:
                context.patient = False  # copies must not compete with calls that someone waits for
                expected = yield from self._follower.expected(context, shadow.target)
                as_bytes = all(_inputs.choose(row, expected.spec, self.send) == "bytes" for row in rows)
                sent: Sent = "bytes" if as_bytes else "tensors"
                outcomes = yield from self._predict_rows(context, shadow.target, rows, sent)
        except DuoserveError as error:
            outcomes = [error] * len(rows)
        for (_, main), outcome in zip(pairs, outcomes, strict=True):
            if isinstance(outcome, DuoserveError):
                self.tally.ended("failed")
            else:
                self.tally.compare(main, outcome)
