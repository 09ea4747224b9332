"""From the caller's input to the tensors of a request. No I/O except reading files of images and clips."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from duoserve import contract
from duoserve.contract import AUDIO, IMAGE, TEXT, PreprocessingSpec, TensorSpec
from duoserve.errors import InvalidInput
from duoserve.preprocessing.audio import Clip
from duoserve.preprocessing.image_headers import EncodedImage
from duoserve.preprocessing.images import opened
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.preprocessing.sources import utf8
from duoserve.preprocessing.wav import EncodedAudio
from duoserve.results import Sent

SendMode = Literal["auto", "tensors", "bytes"]
SIGNATURES: Final[dict[Sent, str]] = {"tensors": contract.SERVING_DEFAULT, "bytes": contract.SERVING_BYTES}

# Up to this many numbers, scanning a list is faster than scanning an array: after the wait for a reply numpy's loops
# are no longer in the CPU's caches.
FEW: Final = 256

_UINT8: Final = np.dtype("uint8")
_INT32: Final = np.dtype("int32")

Tensors = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass(slots=True)
class Row:
    """One image (or clip) and text, read and checked, but not yet prepared for a version."""

    source: Any  # the headers of a file, an array, a PIL image or the Clip of an array; None when it is missing
    text: str | None
    text_bytes: bytes
    prepared: tuple[str, npt.NDArray[np.uint8], npt.NDArray[np.int32]] | None = None  # by `tensors`, for a digest

    @property
    def data(self) -> bytes | None:
        """The file, None when the image or clip came as numbers; no bytes when it is missing."""
        if isinstance(self.source, (EncodedImage, EncodedAudio)):
            return self.source.data
        return b"" if self.source is None else None

    @property
    def missing(self) -> tuple[str, ...]:
        """Which of "image" and "text" is missing: one at most."""
        return (IMAGE,) if self.source is None else (TEXT,) if self.text is None else ()

    @property
    def medium(self) -> str | None:
        """IMAGE or AUDIO; None when it is missing, which fits both."""
        if self.source is None:
            return None
        return AUDIO if isinstance(self.source, (Clip, EncodedAudio)) else IMAGE

    @property
    def size(self) -> int:
        """Bytes of the raw row."""
        return len(self.data or b"") + len(self.text_bytes)

    def tensors(self, preprocessor: Preprocessor) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Image and tokens for the versions of the preprocessor's spec; kept for a retry."""
        digest = preprocessor.digest
        if self.prepared is None or self.prepared[0] != digest:
            self.prepared = digest, preprocessor.image(self.source), preprocessor.tokens(self.text)
            if self.source is None and not (self.prepared[2] != preprocessor.spec.pad_id).any():
                raise InvalidInput("Expected text to have a token, as there is no image. Received: none")
        return self.prepared[1:]


def read_row(image: Any, text: Any) -> Row:
    """Reads the file of the image or clip, if there is one, and refuses input that no version accepts."""
    if image is None and text is None:
        raise InvalidInput("Expected an image, a text or both. Received: neither")
    text_bytes = b"" if text is None else utf8(text)
    if text is not None and not text.strip():
        raise InvalidInput(f"Expected text to have visible characters. Received: {text!r:.40}")
    if isinstance(image, Clip):
        image = image.opened()
    elif image is not None:
        image = opened(image)
    return Row(image, text, text_bytes)


def choose(row: Row, spec: PreprocessingSpec, mode: SendMode) -> Sent:
    """How to send the row: `auto` chooses what is smaller on the wire. Refuses bytes where there are none."""
    if not spec.serving_bytes:
        if mode == "bytes":
            raise InvalidInput(f"Expected send to be auto or tensors, as {_no_bytes(spec)}. Received: bytes")
        return "tensors"
    source = row.source
    is_foreign = isinstance(source, EncodedAudio) and source.format != "WAV"  # no operation in the graph reads it
    if (is_foreign or row.data is None) and mode != "bytes":
        return "tensors"
    if is_foreign:
        raise InvalidInput(f"Expected a WAV, to send bytes of audio. Received: {source.format}")
    if row.data is None:
        received = "samples" if row.medium == AUDIO else "pixels"
        raise InvalidInput(
            f"Expected an encoded {row.medium} (path, bytes or file object) to send bytes. Received: {received}"
        )
    if mode != "auto":
        return mode
    if isinstance(source, EncodedImage) and source.since_background and spec.background is None:
        return "tensors"  # older graphs do not read such files
    return "bytes" if row.size < tensor_bytes(spec) else "tensors"


def tensor_bytes(spec: PreprocessingSpec) -> int:
    """Bytes of a prepared row."""
    return spec.image_height * spec.image_width * 3 + spec.token_length * 4


def _no_bytes(spec: PreprocessingSpec) -> str:
    return (
        f"this version has no signature {contract.SERVING_BYTES} (no operation of its graph makes the ids of its"
        f" {spec.tokenizer_kind} tokenizer)"
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """Rows for one signature, to be prepared for whichever version answers."""

    rows: Sequence[Row]
    signature: str  # SERVING_BYTES sends the raw rows; every other signature, tensors
    label: str | None = None  # for EXPLAIN the class, tag or score; None: the most probable one, or the first score

    def mismatch(self, spec: PreprocessingSpec) -> str | None:
        """Why a version of this spec can't answer, as an error message; None if it can."""
        if self.signature == contract.SERVING_BYTES and not spec.serving_bytes:
            return f"Expected tensors, as {_no_bytes(spec)}. Received: bytes"
        if self.signature != contract.SERVING_DEFAULT and self.signature not in contract.signatures(spec):
            return f"Expected a version with the signature {self.signature}. Received: one that was exported without"
        if self.label is not None and self.label not in spec.labels:
            known = f"{len(spec.labels)} {spec.answer.columns}"
            return f"Expected label to be one of the version's {known}. Received: {self.label!r:.80}"
        media = {row.medium for row in self.rows} - {None, spec.medium}
        if media:
            received = " and ".join(map(str, media))
            return f"Expected {spec.medium} (and text), which this version takes. Received: {received}"
        missing = {name for row in self.rows for name in row.missing}.difference(spec.optional)
        if missing:
            received = " or no ".join(sorted(spec.medium if name == IMAGE else name for name in missing))
            both = f"{spec.medium} and text: this version was always trained with both, without modality dropout"
            return f"Expected {both}. Received: no {received}"
        return None

    def inputs(self, preprocessor: Preprocessor) -> Tensors:
        """The inputs of the request."""
        if self.signature == contract.SERVING_BYTES:
            files, texts = np.empty(len(self.rows), object), np.empty(len(self.rows), object)
            files[:] = [row.data for row in self.rows]
            texts[:] = [row.text_bytes for row in self.rows]
            return {preprocessor.spec.bytes_input: files, "text": texts}
        images, tokens = zip(*(row.tensors(preprocessor) for row in self.rows), strict=True)
        if len(self.rows) == 1:
            tensors: Tensors = {"image": images[0][None], "tokens": tokens[0][None]}
        else:
            tensors = {"image": np.stack(images), "tokens": np.stack(tokens)}
        if self.signature == contract.EXPLAIN:
            class_id = -1 if self.label is None else preprocessor.spec.labels.index(self.label)
            tensors["class_id"] = np.full(len(self.rows), class_id, np.int32)
        return tensors


def check_tensors(image: Any, tokens: Any, preprocessor: Preprocessor) -> Tensors:
    """Prepared tensors, checked against the contract: the server checks little of it itself."""
    tensors = {"image": image, "tokens": tokens}
    spec = preprocessor.spec
    if (
        type(image) is not np.ndarray
        or type(tokens) is not np.ndarray
        or image.dtype != _UINT8
        or tokens.dtype != _INT32
        or image.shape[1:] != (spec.image_height, spec.image_width, 3)
        or tokens.shape[1:] != (spec.token_length,)
        or not image.shape[0] == tokens.shape[0] > 0
    ):
        for expected in contract.signatures(spec)[contract.SERVING_DEFAULT].inputs:
            _check_tensor(expected, tensors[expected.name])
        if len(image) != len(tokens):
            raise InvalidInput(f"Expected as many rows of tokens as of image. Received: {len(tokens)} and {len(image)}")
    size = preprocessor.vocabulary_size
    few = tokens.ravel().tolist() if tokens.size <= FEW else (tokens.min(), tokens.max())
    if min(few) < 0 or max(few) >= size:
        raise InvalidInput(f"Expected tokens from 0 to {size - 1}. Received: {tokens.min()} to {tokens.max()}")
    if len(spec.optional) == 2 and not (image.any((1, 2, 3)) | (tokens != spec.pad_id).any(1)).all():
        raise InvalidInput("Expected an image, a text or both in each row. Received: neither in one")
    return tensors


def _check_tensor(spec: TensorSpec, array: Any) -> None:
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"Expected {spec.name} to be {spec}. Received: {type(array).__name__}")
    sizes = zip(spec.shape, array.shape, strict=False)
    fits = array.ndim == len(spec.shape) and all(want in (None, got) for want, got in sizes)
    if array.dtype.name != spec.dtype or not fits:
        received = f"{array.dtype.name} array of shape {array.shape}"
        raise InvalidInput(f"Expected {spec.name} to be {spec}. Received: {received}")
    if array.shape[0] == 0:
        raise InvalidInput(f"Expected {spec.name} to have at least one row. Received: none")
