"""Follows rollouts. Input is prepared for the version that a label is expected to name; the reply names the version
that answered; if that version prepares its input differently, the answer is discarded, the input is prepared again, and
that version is asked by its number.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from duoserve import contract, errors
from duoserve._calls import inputs as _inputs
from duoserve._calls.effects import Offload, SingleFlight, Sleep, Steps
from duoserve._calls.inputs import FEW, Query, Row
from duoserve._calls.observing import Context
from duoserve._calls.retrying import Rpc
from duoserve._checks import Target
from duoserve._transport.fork import Lock
from duoserve._wire import messages as _messages
from duoserve._wire.messages import Outputs, VersionStatus
from duoserve._wire.protobuf import CodecError
from duoserve.contract import PreprocessingSpec, SignatureSpec, TensorSpec
from duoserve.errors import DuoserveError
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.results import Prediction, Sent, TensorPrediction, predictions

T = TypeVar("T")

_ROUNDS: Final = 8  # of asking again because versions changed; a rollout needs two
_ROUND_PAUSE: Final = 0.05  # seconds, times the round: replicas poll their config at different times
_REPLICAS_TRIED: Final = 3  # for a version that one replica named and the next one lacks
_LARGEST: Final = (1 << 31) - 1  # protobuf's own limit
_dtype: Final = functools.lru_cache(maxsize=32)(np.dtype)  # comparing with a name parses the name each time
_KEPT: Final = 16  # versions; a spec holds a tokenizer of some hundred kilobytes
_DUMMY_ROW: Final = np.array([b""], object)


class Specs:
    """A cache of Preprocessors by version. A published version never changes, so nothing expires.

    Versions that differ only in their number share one Preprocessor, hence one loaded tokenizer.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_version: dict[int, Preprocessor] = {}
        self._expected: dict[Target, int] = {}

    def expected(self, target: Target) -> Preprocessor | None:
        """The Preprocessor of the version that last answered for this label, or of this version."""
        version = target if isinstance(target, int) else self._expected.get(target)
        return None if version is None else self._by_version.get(version)

    def add(self, version: int, spec: PreprocessingSpec) -> Preprocessor:
        """Stores the spec that the server returned for a version."""
        with self._lock:
            alike = (
                one for one in self._by_version.values() if dataclasses.replace(one.spec, version=spec.version) == spec
            )
            known = next(alike, None)
            found = self._by_version[version] = known or Preprocessor(spec)
            while len(self._by_version) > _KEPT:
                del self._by_version[next(iter(self._by_version))]
            return found

    def answered(self, target: Target, version: int) -> None:
        """Stores which version a label names now."""
        if self._expected.get(target) != version:
            with self._lock:
                self._expected[target] = version


@dataclasses.dataclass(eq=False)
class VersionFollower:
    """The calls of a client for one model."""

    rpc: Rpc
    server: str
    model: str

    def __post_init__(self) -> None:
        self._specs = Specs()

    def run(
        self,
        context: Context,
        target: Target,
        signature: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        outputs: Sequence[str] = (),
    ) -> Steps[Outputs]:
        """Any signature with any tensors."""
        try:
            request = _messages.encode_predict(self.model, target, signature, inputs, outputs)
        except CodecError as error:
            raise errors.InvalidInput(str(error)) from error
        if len(request) > _LARGEST:
            raise errors.InvalidInput(f"Expected a request of at most {_LARGEST} bytes. Received: {len(request)}")
        reply = yield from self.rpc.send(context, _messages.PREDICT, request, target)
        found = self._read(_messages.decode_predict, reply, target)
        context.record.version = found.version
        return found

    def status(self, context: Context, target: Target) -> Steps[list[VersionStatus]]:
        """State of the model's versions on one server."""
        version = target if isinstance(target, int) else None  # the server ignores a label here
        request = _messages.encode_status(self.model, version)
        reply = yield from self.rpc.send(context, _messages.GET_MODEL_STATUS, request, version)
        return self._read(_messages.decode_status, reply, version)

    def signatures(self, context: Context, target: Target) -> Steps[dict[str, SignatureSpec]]:
        """The signatures of a version, as the server reports them."""
        request = _messages.encode_metadata(self.model, target)
        reply = yield from self.rpc.send(context, _messages.GET_MODEL_METADATA, request, target)
        found, context.record.version = self._read(_messages.decode_metadata, reply, target)
        return found

    def describe(self, context: Context, target: Target) -> Steps[tuple[Preprocessor, int]]:
        """Asks for the spec of a label or version, and for that version's number."""
        try:
            outputs = yield from self.run(context, target, contract.DESCRIBE, {"key": _DUMMY_ROW})
        except errors.UnsupportedModel as error:
            reason = f"Expected a model with the signature {contract.DESCRIBE}. Received: one without"
            raise self.locate(errors.UnsupportedModel(reason), target) from error
        row = outputs.tensors.get("spec")
        try:
            if row is None or row.size != 1:
                raise contract.ContractError(f"Expected one spec. Received: {0 if row is None else row.size}")
            spec = PreprocessingSpec.from_json(row.ravel()[0])
            # Following is keyed by the version that the server names, not by the one in the spec.
            preprocessor = self._specs.add(outputs.version, spec)
            # Loads the tokenizer now: if it can't be loaded, the model is at fault, not the next text.
            yield Offload(lambda: preprocessor.vocabulary_size)
        except (contract.ContractError, UnicodeDecodeError, TypeError) as error:
            raise self.locate(errors.UnsupportedModel(str(error)), target) from error
        except errors.UnsupportedModel as error:  # its tokenizer needs a package
            raise self.locate(error, target) from error.__cause__
        self._specs.answered(target, outputs.version)
        return preprocessor, outputs.version

    def _read(self, decode: Callable[[bytes], T], reply: bytes, target: Target) -> T:
        try:
            return decode(reply)
        except CodecError as error:
            raise self.locate(errors.BadReply(str(error)), target) from error

    def expected(self, context: Context, target: Target) -> Steps[Preprocessor]:
        """The Preprocessor to try first: from the cache, or from the server."""
        found = self._specs.expected(target)
        if found is None:
            found = yield SingleFlight(target, self._ask_unless_known(context, target), context.remaining())
        return found

    def _ask_unless_known(self, context: Context, target: Target) -> Steps[Preprocessor]:
        found = self._specs.expected(target)
        if found is None:
            found, _ = yield from self.describe(context, target)
        return found

    def predict_rows(
        self, context: Context, target: Target, rows: Sequence[Row], sent: Sent
    ) -> Steps[list[Prediction | DuoserveError]]:
        """One request for all rows, repeated until input and answer are of one version."""
        outputs, answering = yield from self.ask(context, target, Query(rows, _inputs.SIGNATURES[sent]))
        expected = contract.answer_tensor(answering.spec, len(rows))
        values = self.tensor(outputs, expected)
        found: list[Prediction | DuoserveError] = [*predictions(values, answering.spec, outputs.version, target, sent)]
        if not _all_finite(values):
            for i in np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
                found[i] = self.not_finite(expected.name, outputs.version)
        return found

    def ask(self, context: Context, target: Target, query: Query) -> Steps[tuple[Outputs, Preprocessor]]:
        """The answer to a query, and the Preprocessor of the version that gave it."""
        as_bytes = query.signature == contract.SERVING_BYTES
        context.record.sent = "bytes" if as_bytes else "tensors"
        preprocessor: Preprocessor | None = None
        try:
            preprocessor = yield from self.expected(context, target)
        except errors.ModelNotFound as error:
            if isinstance(target, int) or not _is_moving(error):
                raise
        asked, misses = target, 0
        for round_ in range(_ROUNDS):
            last = round_ == _ROUNDS - 1
            if round_ > 1:
                yield Sleep(min(_ROUND_PAUSE * round_, context.remaining()))
            try:
                if preprocessor is None:
                    preprocessor, asked = (yield from self.describe(context, target))[0], target
                if query.mismatch(preprocessor.spec):
                    preprocessor = yield from self._accepting(context, target, asked, query)
                prepare = functools.partial(query.inputs, preprocessor)
                inputs = prepare() if as_bytes else (yield Offload(prepare))
                outputs = yield from self.run(context, asked, query.signature, inputs)
                answering = yield from self._answering(context, outputs.version)
            except errors.ModelNotFound as error:
                # The label's version was unloaded, or is not on this replica (yet).
                if last or isinstance(target, int) or not _is_moving(error):
                    raise
                misses += 1
                if asked == target or misses % _REPLICAS_TRIED == 0:
                    preprocessor = None
            except (errors.RequestRejected, errors.UnsupportedModel) as error:
                # Input prepared for another version can fail in the graph instead of being
                # answered. The version that the label names now, asked by number, settles it.
                if preprocessor is None or last or asked != target or isinstance(target, int):
                    raise
                if not _depends_on_version(query, error):
                    raise
                before = preprocessor.digest
                preprocessor, asked = yield from self.describe(context, target)
                context.record.reprepared += preprocessor.digest != before
            else:
                fits = as_bytes and not query.mismatch(answering.spec)
                if fits or answering.digest == preprocessor.digest:
                    self._specs.answered(target, outputs.version)
                    return outputs, answering
                preprocessor, asked = answering, outputs.version
                context.record.reprepared += 1
        text = f"Expected input and answer of one version in {_ROUNDS} requests. Received: versions that kept changing"
        raise self.locate(errors.SpecChanged(text), asked)

    def _accepting(self, context: Context, target: Target, asked: Target, query: Query) -> Steps[Preprocessor]:
        """The Preprocessor of the version that a label names now, or of the one asked instead, if it can answer."""
        if asked == target:  # what is known of a label may be out of date
            preprocessor, asked = yield from self.describe(context, target)
        else:
            preprocessor = yield from self.expected(context, asked)
        reason = query.mismatch(preprocessor.spec)
        if reason is not None:
            raise self.locate(errors.UnsupportedModel(reason), asked)
        return preprocessor

    def _answering(self, context: Context, version: int) -> Steps[Preprocessor]:
        """The Preprocessor of a version that answered: if one replica lacks the version, another has it."""
        for _ in range(_REPLICAS_TRIED - 1):
            try:
                return (yield from self.expected(context, version))
            except errors.ModelNotFound:
                continue
        return (yield from self.expected(context, version))

    def tensor(self, outputs: Outputs, expected: TensorSpec) -> npt.NDArray[Any]:
        """One output, checked against the contract."""
        array = outputs.tensors.get(expected.name)
        if array is not None and array.dtype == _dtype(expected.dtype) and array.shape == expected.shape:
            return array
        if array is None:
            text = f"the reply to hold {expected.name}. Received: {', '.join(outputs.tensors) or 'nothing'}"
        else:
            text = f"{expected.name} to be {expected}. Received: {array.dtype.name} array of shape {array.shape}"
        raise self.locate(errors.BadReply(f"Expected {text}"), outputs.version)

    def predict_tensors(
        self, context: Context, target: Target, image: Any, tokens: Any, preprocessor: Preprocessor
    ) -> Steps[TensorPrediction]:
        """Tensors from `preprocessor`: answered by a version of its spec, or refused."""
        context.record.sent = "tensors"
        inputs = _inputs.check_tensors(image, tokens, preprocessor)
        outputs = yield from self.run(context, target, contract.SERVING_DEFAULT, inputs)
        answering = yield from self._answering(context, outputs.version)
        self._specs.answered(target, outputs.version)
        if answering.digest != preprocessor.digest:
            text = f"Expected tensors prepared by spec {answering.digest[:12]}. Received: {preprocessor.digest[:12]}"
            raise self.locate(errors.SpecChanged(text), outputs.version)
        spec = answering.spec
        expected = contract.answer_tensor(spec, len(image))
        values = self.tensor(outputs, expected)
        if not _all_finite(values):
            raise self.not_finite(expected.name, outputs.version)
        values.flags.writeable = False
        return TensorPrediction(values, spec.labels, spec.answer, outputs.version)

    def not_finite(self, name: str, version: int) -> DuoserveError:
        """The error for an output that is not finite."""
        return self.locate(errors.BadReply(f"Expected finite {name}. Received: NaN"), version)

    def locate(self, error: DuoserveError, version: Target) -> DuoserveError:
        """The error, with server, model and version added."""
        error.server, error.model, error.version = self.server, self.model, version
        return error


def _all_finite(values: npt.NDArray[np.float32]) -> bool:
    flat = values.ravel()
    if len(flat) <= FEW:  # no sum of so few overflows a Python float
        return math.isfinite(sum(flat.tolist()))
    # A sum of squares is cheaper than a mask; the mask decides only where the sum overflows or is not a number.
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(values).all())


def _depends_on_version(query: Query, error: DuoserveError) -> bool:
    """Whether another version of the model may answer a query that this one refused."""
    complete_images = all(row.medium == contract.IMAGE and not row.missing for row in query.rows)
    if complete_images and query.signature == contract.SERVING_BYTES:
        return False  # their bytes fit every version
    # Not every version has every signature: the label may have moved to one without it.
    unsupported = isinstance(error, errors.UnsupportedModel)
    return not unsupported or (query.signature != contract.SERVING_DEFAULT and error.code is not None)


def _is_moving(error: errors.ModelNotFound) -> bool:
    """Whether the label is known but its version is not: this occurs briefly while labels move."""
    return "Specific(" in error.message
