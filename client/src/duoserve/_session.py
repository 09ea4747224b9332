"""What the client's methods do, as steps: options, records, canary, shadow and batches. No I/O."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from duoserve import _batches, _inputs, observe
from duoserve._core import Core
from duoserve._effects import Background, Compute, Steps
from duoserve._inputs import Item, SendMode
from duoserve._messages import Outputs, VersionStatus
from duoserve._rpc import Context, Metadata, Rpc, check_metadata
from duoserve._specs import Target
from duoserve.audio import AudioSource, Clip
from duoserve.contract import PreprocessingSpec, SignatureSpec
from duoserve.errors import DuoserveError, InvalidInput
from duoserve.observe import CallRecord, Observer
from duoserve.preprocess import ImageSource, Preprocessor
from duoserve.results import BatchResult, Prediction, TensorPrediction
from duoserve.routing import Canary, Shadow, ShadowReport, ShadowTally

__all__ = ["Session"]

T = TypeVar("T")
_LONGEST: Final = 3600.0  # seconds; a deadline is always finite


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
        if not isinstance(model, str) or not model:
            raise InvalidInput(f"Expected model to be the name of a model. Received: {model!r}")
        if send not in ("auto", "tensors", "bytes"):
            raise InvalidInput(f"Expected send to be auto, tensors or bytes. Received: {send!r}")
        if not isinstance(max_batch_size, int) or max_batch_size < 1:
            raise InvalidInput(f"Expected max_batch_size of at least 1. Received: {max_batch_size!r}")
        self.target = resolve_target(label, version)
        self.timeout = check_timeout(timeout)
        self.server = server
        self.model = model
        self._send = send
        self._canary = canary
        self._shadow = shadow
        self._tally = ShadowTally()
        self._observers = tuple(observers)
        self._core = Core(rpc, server=server, model=model)
        self._batches = _batches.Batches(self._core, max_batch_size)

    def predict(
        self,
        image: ImageSource | Clip | None,
        text: str | None,
        *,
        audio: AudioSource | None,
        key: str | None,
        timeout: float | None,
        metadata: Metadata,
    ) -> Steps[Prediction]:
        """One image or clip, and text."""
        target, fallback = self._route(key)
        context, finish = self._begin("predict", target, timeout, metadata)
        with finish:
            source = _inputs.either(image, audio)
            if source is None or isinstance(source, (bytes, np.ndarray)):  # nothing to wait for
                item = _inputs.read_item(source, text)
            else:
                item = yield Compute(lambda: _inputs.read_item(source, text))
            try:
                found = yield from self._predict_one(context, target, item)
            except DuoserveError as error:
                if not fallback or isinstance(error, InvalidInput):
                    raise
                context.record.target = self.target
                found = yield from self._predict_one(context, self.target, item)
            if self._shadow is not None and random.random() * 100 < self._shadow.percent:  # noqa: S311 -- a share
                accepted = yield Background(self._compare(self._shadow, item, found), self._shadow.max_pending)
                if not accepted:
                    self._tally.dropped()
            return found

    def _predict_one(self, context: Context, target: Target, item: Item) -> Steps[Prediction]:
        expected = yield from self._core.expected(context, target)
        sent = context.record.sent = _inputs.choose(item, expected.spec, self._send)
        outcomes = yield from self._core.predict_items(context, target, [item], sent)
        if isinstance(outcomes[0], DuoserveError):
            raise outcomes[0]
        return outcomes[0]

    def _compare(self, shadow: Shadow, item: Item, main: Prediction) -> Steps[None]:
        try:
            context, finish = self._begin("shadow", shadow.target, None, ())
            with finish:
                found = yield from self._predict_one(context, shadow.target, item)
            self._tally.compare(main, found)
        except DuoserveError:
            self._tally.failed()

    def shadow_report(self) -> ShadowReport:
        """What the shadow was compared to so far."""
        return self._tally.report()

    def predict_batch(
        self,
        pairs: Iterable[tuple[ImageSource | Clip | None, str | None]],
        *,
        timeout: float | None,
        metadata: Metadata,
    ) -> Steps[BatchResult]:
        """Many images and texts; an item that fails does not fail its neighbours."""
        found = list(pairs)
        context, finish = self._begin("predict_batch", self.target, timeout, metadata)
        context.record.rows = len(found)
        with finish:
            outcomes = yield from self._batches.predict(context, self.target, found, self._send)
            context.record.item_errors = sum(isinstance(outcome, DuoserveError) for outcome in outcomes)
            return BatchResult(outcomes)

    def predict_tensors(
        self, image: Any, tokens: Any, preprocessor: Preprocessor, *, timeout: float | None, metadata: Metadata
    ) -> Steps[TensorPrediction]:
        """Tensors that `preprocessor` made."""
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
        metadata: Metadata,
    ) -> Steps[Outputs]:
        """Any signature with any tensors."""
        context, finish = self._begin("run", self.target, timeout, metadata)
        with finish:
            context.record.sent = "tensors"
            return (yield from self._core.run(context, self.target, signature, inputs, outputs))

    def preprocessor(self, *, timeout: float | None, metadata: Metadata) -> Steps[Preprocessor]:
        """Asks for the spec that stands behind the label now."""
        context, finish = self._begin("describe", self.target, timeout, metadata)
        with finish:
            found, _ = yield from self._core.describe(context, self.target)
            return found

    def describe(self, *, timeout: float | None, metadata: Metadata) -> Steps[PreprocessingSpec]:
        """The spec that stands behind the label now, with the version that answered."""
        context, finish = self._begin("describe", self.target, timeout, metadata)
        with finish:
            found, version = yield from self._core.describe(context, self.target)
            return dataclasses.replace(found.spec, version=version)

    def status(self, *, timeout: float | None, metadata: Metadata) -> Steps[list[VersionStatus]]:
        """State of the model's versions on one server."""
        context, finish = self._begin("status", self.target, timeout, metadata)
        with finish:
            return (yield from self._core.status(context, self.target))

    def signatures(self, *, timeout: float | None, metadata: Metadata) -> Steps[dict[str, SignatureSpec]]:
        """The signatures of the version behind the label."""
        context, finish = self._begin("signatures", self.target, timeout, metadata)
        with finish:
            return (yield from self._core.signatures(context, self.target))

    def _route(self, key: str | None) -> tuple[Target, bool]:
        if self._canary is not None and self._canary.takes(key):
            return self._canary.target, self._canary.fallback
        return self.target, False

    def _begin(
        self, operation: str, target: Target, timeout: float | None, metadata: Metadata
    ) -> tuple[Context, _Finish]:
        record = CallRecord(operation, self.server, self.model, target)
        seconds = self.timeout if timeout is None else check_timeout(timeout)
        checked = check_metadata(metadata) if metadata else ()
        finish = _Finish(record, self._observers)
        return Context(time.monotonic() + seconds, seconds, record, checked + finish.metadata), finish


class _Finish:
    """Closes a call's record when its block ends, and tells the observers."""

    __slots__ = ("_record", "_started", "_states", "metadata")

    def __init__(self, record: CallRecord, observers: Sequence[Observer]) -> None:
        self._record = record
        self._started = time.monotonic()
        self._states: list[tuple[Observer, Any]] = []
        self.metadata: tuple[tuple[str, str], ...] = ()
        for observer in observers:
            state, metadata = observer.started(record)
            self._states.append((observer, state))
            self.metadata += tuple(metadata)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        record = self._record
        record.seconds = time.monotonic() - self._started
        if kind is not None:
            record.outcome = kind.__name__
        for observer, state in self._states:
            observer.finished(state, record)
        observe.log(record)


def resolve_target(label: str | None, version: int | None) -> Target:
    """The label or version to ask for, None for the latest version."""
    if label is not None and version is not None:
        raise InvalidInput(f"Expected a label or a version. Received: label={label!r} and version={version!r}")
    if label is not None and (not isinstance(label, str) or not label):
        raise InvalidInput(f"Expected label to be a non-empty str. Received: {label!r}")
    if version is not None and (not isinstance(version, int) or isinstance(version, bool) or version < 1):
        raise InvalidInput(f"Expected version to be an integer of at least 1. Received: {version!r}")
    return label if label is not None else version


def check_timeout(timeout: float) -> float:
    """A finite, positive number of seconds."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not math.isfinite(timeout):
        raise InvalidInput(f"Expected timeout in seconds, finite. Received: {timeout!r}")
    if not 0 < timeout <= _LONGEST:
        raise InvalidInput(f"Expected timeout above 0 and up to {_LONGEST:g} seconds. Received: {timeout!r}")
    return float(timeout)
