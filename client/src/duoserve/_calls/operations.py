"""What the client's methods do, as steps: options, records, canary, shadow and batches. No I/O."""

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
from duoserve._calls.core import Core
from duoserve._calls.effects import Background, Compute, Steps
from duoserve._calls.embed_explain import Insight
from duoserve._calls.inputs import Item, SendMode
from duoserve._calls.observing import Finish, Observed
from duoserve._calls.retrying import Context, Pairs, Rpc, check_metadata
from duoserve._calls.specs import Target
from duoserve._checks import expect_kind, expect_name, expect_whole, resolve_target, timeout_seconds
from duoserve._wire.messages import Outputs, VersionStatus
from duoserve.contract import PreprocessingSpec, SignatureSpec
from duoserve.errors import DuoserveError, InvalidInput, UnsupportedModel
from duoserve.explanation import Explanation
from duoserve.observe import CallRecord, Observer
from duoserve.preprocessing.audio import AudioSource, Clip
from duoserve.preprocessing.preprocessor import ImageSource, Preprocessor
from duoserve.results import BatchResult, Embedding, EmbeddingBatch, Prediction, Sent, TensorPrediction
from duoserve.routing import Canary, Shadow, ShadowReport, ShadowTally

__all__ = ["Session"]

T = TypeVar("T")
_MOST_ROWS = 1 << 20  # of a request


class Session:
    """The calls of one client. Checks every option when it is made."""

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
        self._observed = Observed(observers)
        self._core = Core(rpc, server=server, model=model)
        self._insight = Insight(self._core)
        self._batches = _batches.Batches[Prediction](self._core, self._predict_items, max_batch_size)
        self._embeddings = _batches.Batches[Embedding](self._core, self._insight.embed_items, max_batch_size)

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
        context, finish = self._begin("predict", target, timeout, metadata)
        with finish:
            item = yield from self._read(image, text, audio)
            try:
                found = yield from self._predict_one(context, target, item)
            except DuoserveError as error:
                if not fallback or isinstance(error, InvalidInput):
                    raise
                context.record.target = self.target
                found = yield from self._predict_one(context, self.target, item)
            yield from self._copy([(item, found)])
            return found

    def _read(self, image: ImageSource | Clip | None, text: str | None, audio: AudioSource | None) -> Steps[Item]:
        source = _inputs.either(image, audio)
        if source is None or isinstance(source, (bytes, np.ndarray)):  # nothing to wait for
            return _inputs.read_item(source, text)
        found: Item = yield Compute(lambda: _inputs.read_item(source, text))
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
        """One image or clip, and text, as a vector. Never a canary's: vectors of two versions can't be compared."""
        context, finish = self._begin("embed", self.target, timeout, metadata)
        with finish:
            item = yield from self._read(image, text, audio)
            context.record.sent = "tensors"
            (found,) = yield from self._insight.embed_items(context, self.target, [item])
            assert isinstance(found, Embedding)  # one item fails by raising
            return found

    def embed_batch(
        self,
        pairs: Iterable[tuple[ImageSource | Clip | None, str | None]],
        *,
        timeout: float | None,
        metadata: Pairs,
    ) -> Steps[EmbeddingBatch]:
        """Many images and texts as vectors, of the version that stands behind the label as it begins."""
        found = _listed(pairs)
        context, finish = self._begin("embed_batch", self.target, timeout, metadata)
        context.record.rows = len(found)
        with finish:
            context.record.sent = "tensors"
            version = yield from self._insight.embedding_version(context, self.target)
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
        """What decided about one image or clip, and text: of what the client's own label or version says."""
        if label is not None:
            expect_kind("label", label, str, "a str")
        context, finish = self._begin("explain", self.target, timeout, metadata)
        with finish:
            item = yield from self._read(image, text, audio)
            context.record.sent = "tensors"
            return (yield from self._insight.explain(context, self.target, item, label))

    def _predict_one(self, context: Context, target: Target, item: Item) -> Steps[Prediction]:
        expected = yield from self._core.expected(context, target)
        sent = context.record.sent = _inputs.choose(item, expected.spec, self._send)
        outcomes = yield from self._predict_items(context, target, [item], sent)
        if isinstance(outcomes[0], DuoserveError):
            raise outcomes[0]
        return outcomes[0]

    def _predict_items(
        self, context: Context, target: Target, items: Sequence[Item], sent: Sent
    ) -> Steps[list[Prediction | DuoserveError]]:
        """One request for all items; as tensors where the label names a version by now that takes no bytes."""
        try:
            return (yield from self._core.predict_items(context, target, items, sent))
        except UnsupportedModel:
            if sent == "tensors" or self._send == "bytes":
                raise
            found, _ = yield from self._core.describe(context, target)
            if found.spec.serving_bytes:
                raise
        context.record.sent = "tensors"
        return (yield from self._core.predict_items(context, target, items, "tensors"))

    def _copy(self, answered: Sequence[tuple[Item, Prediction]]) -> Steps[None]:
        """Sends a share of what was answered to the shadow too, off the caller's path."""
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

    def _compare(self, shadow: Shadow, pairs: Sequence[tuple[Item, Prediction]]) -> Steps[None]:
        items = [item for item, _ in pairs]
        outcomes: Sequence[Prediction | DuoserveError]
        try:
            context, finish = self._begin("shadow", shadow.target, None, ())
            context.record.rows = len(items)
            context.patient = False  # copies give way to calls that someone waits for
            with finish:
                expected = yield from self._core.expected(context, shadow.target)
                ways = {_inputs.choose(item, expected.spec, self._send) for item in items}
                context.record.sent = sent = ways.pop() if len(ways) == 1 else "tensors"
                outcomes = yield from self._predict_items(context, shadow.target, items, sent)
        except DuoserveError as error:
            outcomes = [error] * len(items)
        for (_, main), outcome in zip(pairs, outcomes, strict=True):
            if isinstance(outcome, DuoserveError):
                self._tally.failed()
            else:
                self._tally.compare(main, outcome)

    def shadow_report(self) -> ShadowReport:
        """What the shadow was compared to so far."""
        return self._tally.report()

    def close(self) -> None:
        """No copy will be compared any more."""
        self._tally.close()

    def predict_batch(
        self,
        pairs: Iterable[tuple[ImageSource | Clip | None, str | None]],
        *,
        key: str | None,
        timeout: float | None,
        metadata: Pairs,
    ) -> Steps[BatchResult]:
        """Many images and texts; an item that fails does not fail its neighbours."""
        found = _listed(pairs)
        target, fallback = self._route(key)
        context, finish = self._begin("predict_batch", target, timeout, metadata)
        context.record.rows = len(found)
        after = None if self._shadow is None else self._copy
        with finish:
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
        """Tensors that `preprocessor` made."""
        if type(preprocessor) is not Preprocessor:
            expect_kind("preprocessor", preprocessor, Preprocessor, "a Preprocessor")
        context, finish = self._begin("predict_tensors", self.target, timeout, metadata)
        with finish:
            context.record.sent = "tensors"
            found = yield from self._core.predict_tensors(context, self.target, image, tokens, preprocessor)
            context.record.rows = len(found.probabilities)
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
        context, finish = self._begin("run", self.target, timeout, metadata)
        with finish:
            context.record.sent = "tensors"
            return (yield from self._core.run(context, self.target, signature, inputs, outputs))

    def preprocessor(self, *, timeout: float | None, metadata: Pairs) -> Steps[Preprocessor]:
        """Asks for the spec that stands behind the label now."""
        context, finish = self._begin("describe", self.target, timeout, metadata)
        with finish:
            found, _ = yield from self._core.describe(context, self.target)
            return found

    def describe(self, *, timeout: float | None, metadata: Pairs) -> Steps[PreprocessingSpec]:
        """The spec that stands behind the label now, with the version that answered."""
        context, finish = self._begin("describe", self.target, timeout, metadata)
        with finish:
            found, version = yield from self._core.describe(context, self.target)
            return dataclasses.replace(found.spec, version=version)

    def status(self, *, timeout: float | None, metadata: Pairs) -> Steps[list[VersionStatus]]:
        """State of the model's versions on one server."""
        context, finish = self._begin("status", self.target, timeout, metadata)
        with finish:
            return (yield from self._core.status(context, self.target))

    def signatures(self, *, timeout: float | None, metadata: Pairs) -> Steps[dict[str, SignatureSpec]]:
        """The signatures of the version behind the label."""
        context, finish = self._begin("signatures", self.target, timeout, metadata)
        with finish:
            return (yield from self._core.signatures(context, self.target))

    def _route(self, key: str | None) -> tuple[Target, bool]:
        if key is not None:
            expect_kind("key", key, str, "a str")
        if self._canary is not None and self._canary.takes(key):
            return self._canary.target, self._canary.fallback
        return self.target, False

    def _begin(self, operation: str, target: Target, timeout: float | None, metadata: Pairs) -> tuple[Context, Finish]:
        record = CallRecord(operation, self.server, self.model, target)
        seconds = self.timeout if timeout is None else timeout_seconds(timeout)
        checked = check_metadata(metadata) if metadata != () else ()
        finish = self._observed.start(record)
        return Context(time.monotonic() + seconds, seconds, record, checked + finish.metadata), finish


def _listed(pairs: Iterable[Any]) -> list[Any]:
    expect_kind("pairs", pairs, Iterable, "pairs (image or Clip, text)")
    return list(pairs)
