"""The client's methods as steps: options, records, canary, shadow and batches. No I/O."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from duoserve._calls import batches as _batches
from duoserve._calls import inputs as _inputs
from duoserve._calls.effects import Background, Offload, Steps
from duoserve._calls.embed_explain import EmbedExplain
from duoserve._calls.inputs import Row, SendMode
from duoserve._calls.observing import ObservedCall, Observers
from duoserve._calls.retrying import Context, Pairs, Rpc, check_metadata
from duoserve._calls.specs import Target
from duoserve._calls.version_follower import VersionFollower
from duoserve._checks import expect_kind, expect_name, expect_whole, resolve_target, timeout_seconds
from duoserve._wire.messages import Outputs, VersionStatus
from duoserve.contract import PreprocessingSpec, SignatureSpec
from duoserve.errors import DuoserveError, InvalidInput, UnsupportedModel
from duoserve.explanation import Explanation
from duoserve.observe import CallRecord, Observer
from duoserve.preprocessing.audio import AudioSource, Clip
from duoserve.preprocessing.images import ImageSource
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.results import BatchResult, Embedding, EmbeddingBatch, Prediction, Sent, TensorPrediction
from duoserve.routing import Canary, Shadow, ShadowReport, ShadowTally

__all__ = ["Operations"]

T = TypeVar("T")
_MOST_ROWS = 1 << 20  # of a request


class Operations:
    """The calls of one client. Checks every option when it is created."""

    def __init__(
        self,
        rpc: Rpc,
        *,
        server: str,
        model: str,
        label: str | None,
        version: int | None,
        timeout: float,
        send: SendMode,
        max_batch_size: int,
        canary: Canary | None,
        shadow: Shadow | None,
        observers: Sequence[Observer],
    ) -> None:
        expect_name("model", model)
        if send not in ("auto", "tensors", "bytes"):
            raise InvalidInput(f"Expected send to be auto, tensors or bytes. Received: {send!r:.80}")
        expect_whole("max_batch_size", max_batch_size, 1, _MOST_ROWS)
        self.target = resolve_target(label, version)
        self.timeout = timeout_seconds(timeout)
        self.server = server
        self.model = model
        self._send = send
        self._canary = canary
        self._shadow = shadow
        self._tally = ShadowTally()
        self._observers = Observers(observers)
        self._follower = VersionFollower(rpc, server=server, model=model)
        self._embed_explain = EmbedExplain(self._follower)
        self._batches = _batches.Batches[Prediction](self._follower, self._predict_rows, max_batch_size)
        self._embeddings = _batches.Batches[Embedding](self._follower, self._embed_explain.embed_rows, max_batch_size)

    def predict(
        self,
        image: ImageSource | Clip | None,
        text: str | None,
        *,
        audio: AudioSource | None,
        key: str | None,
        timeout: float | None,
        metadata: Pairs,
    ) -> Steps[Prediction]:
        """One image or clip, and text."""
        target, fallback = self._route(key)
        context, observed = self._begin("predict", target, timeout, metadata)
        with observed:
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

    def _read(self, image: ImageSource | Clip | None, text: str | None, audio: AudioSource | None) -> Steps[Row]:
        source = _inputs.either(image, audio)
        if source is None or isinstance(source, (bytes, np.ndarray)):  # nothing to wait for
            return _inputs.read_row(source, text)
        found: Row = yield Offload(lambda: _inputs.read_row(source, text))
        return found

    def embed(
        self,
        image: ImageSource | Clip | None,
        text: str | None,
        *,
        audio: AudioSource | None,
        timeout: float | None,
        metadata: Pairs,
    ) -> Steps[Embedding]:
        """One image or clip, and text, as a vector. Never from a canary: vectors of two versions can't be compared."""
        context, observed = self._begin("embed", self.target, timeout, metadata)
        with observed:
            row = yield from self._read(image, text, audio)
            context.record.sent = "tensors"
            (found,) = yield from self._embed_explain.embed_rows(context, self.target, [row])
            assert isinstance(found, Embedding)  # one row fails by raising
            return found

    def embed_batch(
        self,
        pairs: Iterable[tuple[ImageSource | Clip | None, str | None]],
        *,
        timeout: float | None,
        metadata: Pairs,
    ) -> Steps[EmbeddingBatch]:
        """Many images and texts as vectors, of the version that the label names at the start."""
        found = _listed(pairs)
        context, observed = self._begin("embed_batch", self.target, timeout, metadata)
        context.record.rows = len(found)
        with observed:
            context.record.sent = "tensors"
            version = yield from self._embed_explain.embedding_version(context, self.target)
            outcomes = yield from self._embeddings.answer(context, version, found, "tensors", (), None)
            context.record.item_errors = sum(isinstance(outcome, DuoserveError) for outcome in outcomes)
            return EmbeddingBatch(outcomes)

    def explain(
        self,
        image: ImageSource | Clip | None,
        text: str | None,
        *,
        label: str | None,
        audio: AudioSource | None,
        timeout: float | None,
        metadata: Pairs,
    ) -> Steps[Explanation]:
        """Explains one image or clip, and text, by the client's own label or version."""
        if label is not None:
            expect_kind("label", label, str, "a str")
        context, observed = self._begin("explain", self.target, timeout, metadata)
        with observed:
            row = yield from self._read(image, text, audio)
            context.record.sent = "tensors"
            return (yield from self._embed_explain.explain(context, self.target, row, label))

    def _predict_one(self, context: Context, target: Target, row: Row) -> Steps[Prediction]:
        expected = yield from self._follower.expected(context, target)
        sent = context.record.sent = _inputs.choose(row, expected.spec, self._send)
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
            if sent == "tensors" or self._send == "bytes":
                raise
            found, _ = yield from self._follower.describe(context, target)
            if found.spec.serving_bytes:
                raise
        context.record.sent = "tensors"
        return (yield from self._follower.predict_rows(context, target, rows, "tensors"))

    def _copy(self, answered: Sequence[tuple[Row, Prediction]]) -> Steps[None]:
        """Sends a share of the answered rows to the shadow too, in the background."""
        shadow = self._shadow
        if shadow is None:
            return
        taken = [pair for pair in answered if random.random() * 100 < shadow.percent]  # noqa: S311 -- a share
        if not taken:
            return
        self._tally.sent(len(taken))
        accepted = yield Background(self._compare(shadow, taken), shadow.max_pending)
        if not accepted:
            self._tally.dropped(len(taken))

    def _compare(self, shadow: Shadow, pairs: Sequence[tuple[Row, Prediction]]) -> Steps[None]:
        rows = [row for row, _ in pairs]
        outcomes: Sequence[Prediction | DuoserveError]
        try:
            context, observed = self._begin("shadow", shadow.target, None, ())
            context.record.rows = len(rows)
            context.patient = False  # copies must not compete with calls that someone waits for
            with observed:
                expected = yield from self._follower.expected(context, shadow.target)
                ways = {_inputs.choose(row, expected.spec, self._send) for row in rows}
                context.record.sent = sent = ways.pop() if len(ways) == 1 else "tensors"
                outcomes = yield from self._predict_rows(context, shadow.target, rows, sent)
        except DuoserveError as error:
            outcomes = [error] * len(rows)
        for (_, main), outcome in zip(pairs, outcomes, strict=True):
            if isinstance(outcome, DuoserveError):
                self._tally.failed()
            else:
                self._tally.compare(main, outcome)

    def shadow_report(self) -> ShadowReport:
        """The shadow's report so far."""
        return self._tally.report()

    def close(self) -> None:
        """Stops comparing copies."""
        self._tally.close()

    def predict_batch(
        self,
        pairs: Iterable[tuple[ImageSource | Clip | None, str | None]],
        *,
        key: str | None,
        timeout: float | None,
        metadata: Pairs,
    ) -> Steps[BatchResult]:
        """Many images and texts; a row that fails does not fail the others."""
        found = _listed(pairs)
        target, fallback = self._route(key)
        context, observed = self._begin("predict_batch", target, timeout, metadata)
        context.record.rows = len(found)
        after = None if self._shadow is None else self._copy
        with observed:
            try:
                outcomes = yield from self._batches.answer(
                    context, target, found, self._send, (self.target,) if fallback else (), after
                )
            except DuoserveError as error:
                if not fallback or isinstance(error, InvalidInput):
                    raise
                context.record.target = self.target
                outcomes = yield from self._batches.answer(context, self.target, found, self._send, (), after)
            context.record.item_errors = sum(isinstance(outcome, DuoserveError) for outcome in outcomes)
            return BatchResult(outcomes)

    def predict_tensors(
        self, image: Any, tokens: Any, preprocessor: Preprocessor, *, timeout: float | None, metadata: Pairs
    ) -> Steps[TensorPrediction]:
        """Tensors from `preprocessor`."""
        if type(preprocessor) is not Preprocessor:
            expect_kind("preprocessor", preprocessor, Preprocessor, "a Preprocessor")
        context, observed = self._begin("predict_tensors", self.target, timeout, metadata)
        with observed:
            context.record.sent = "tensors"
            found = yield from self._follower.predict_tensors(context, self.target, image, tokens, preprocessor)
            context.record.rows = len(found.values)
            return found

    def run(
        self,
        signature: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        *,
        outputs: Sequence[str],
        timeout: float | None,
        metadata: Pairs,
    ) -> Steps[Outputs]:
        """Any signature with any tensors."""
        expect_name("signature", signature)
        expect_kind("inputs", inputs, Mapping, "a mapping of arrays by input name")
        if isinstance(outputs, str):
            raise InvalidInput("Expected outputs to be names of outputs. Received: one str")
        expect_kind("outputs", outputs, Sequence, "names of outputs")
        for name in (*inputs, *outputs):
            expect_name("a name of inputs or outputs", name)
        for name, array in inputs.items():
            expect_kind(f"input {name:.80}", array, (np.ndarray, np.generic), "a numpy array")
        context, observed = self._begin("run", self.target, timeout, metadata)
        with observed:
            context.record.sent = "tensors"
            return (yield from self._follower.run(context, self.target, signature, inputs, outputs))

    def preprocessor(self, *, timeout: float | None, metadata: Pairs) -> Steps[Preprocessor]:
        """Asks for the spec of the version that the label names now."""
        context, observed = self._begin("describe", self.target, timeout, metadata)
        with observed:
            found, _ = yield from self._follower.describe(context, self.target)
            return found

    def describe(self, *, timeout: float | None, metadata: Pairs) -> Steps[PreprocessingSpec]:
        """The spec of the version that the label names now, with the version that answered."""
        context, observed = self._begin("describe", self.target, timeout, metadata)
        with observed:
            found, version = yield from self._follower.describe(context, self.target)
            return dataclasses.replace(found.spec, version=version)

    def status(self, *, timeout: float | None, metadata: Pairs) -> Steps[list[VersionStatus]]:
        """State of the model's versions on one server."""
        context, observed = self._begin("status", self.target, timeout, metadata)
        with observed:
            return (yield from self._follower.status(context, self.target))

    def signatures(self, *, timeout: float | None, metadata: Pairs) -> Steps[dict[str, SignatureSpec]]:
        """The signatures of the version behind the label."""
        context, observed = self._begin("signatures", self.target, timeout, metadata)
        with observed:
            return (yield from self._follower.signatures(context, self.target))

    def _route(self, key: str | None) -> tuple[Target, bool]:
        if key is not None:
            expect_kind("key", key, str, "a str")
        if self._canary is not None and self._canary.takes(key):
            return self._canary.target, self._canary.fallback
        return self.target, False

    def _begin(
        self, operation: str, target: Target, timeout: float | None, metadata: Pairs
    ) -> tuple[Context, ObservedCall]:
        record = CallRecord(operation, self.server, self.model, target)
        seconds = self.timeout if timeout is None else timeout_seconds(timeout)
        checked = check_metadata(metadata) if metadata != () else ()
        observed = self._observers.start(record)
        return Context(time.monotonic() + seconds, seconds, record, checked + observed.metadata), observed


def _listed(pairs: Iterable[Any]) -> list[Any]:
    expect_kind("pairs", pairs, Iterable, "pairs (image or Clip, text)")
    return list(pairs)
