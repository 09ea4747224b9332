"""How raw input becomes the tensors of one model version, and its output an answer."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from duoserve.contract.answers import ONE_CLASS, Answer, answer_from_record
from duoserve.contract.audio import AudioSpec
from duoserve.contract.records import ContractError, check_int, head, take, take_base64
from duoserve.contract.tokenizers import SENTENCEPIECE, TOKENIZERS

__all__ = ["AUDIO", "IMAGE", "TEXT", "PreprocessingSpec"]

# The inputs, as a caller names them. A model has two of them: an image or a clip, and text.
IMAGE: Final = "image"
AUDIO: Final = "audio"
TEXT: Final = "text"

FORMAT: Final = 3  # of the JSON layout, the newest. A reader ignores unknown keys and refuses a newer format.

_SINCE: Final = {"audio": 2, "optional": 2, "background": 3, "answer": 3, "tokenizer_kind": 3, "serving_bytes": 3}
"""The format that introduced a key. With the key, an older client's error asks for an update."""

_BESIDE_DIGEST: Final = ("version", "embedding_length", "explain_grid", "serving_bytes")
"""Fields without effect on how input is prepared and answers are read: a client that ignores them works as before."""


@dataclasses.dataclass(frozen=True, slots=True)
class PreprocessingSpec:
    """How raw input becomes the tensors of one model version, and its output an answer.

    Attributes:
        image_height: Rows of the `image` input, in pixels.
        image_width: Columns of the `image` input, in pixels.
        token_length: Length of a row of `tokens`; shorter texts are padded, longer ones cut.
        tokenizer: A serialised SentencePiece model, or another kind, see `tokenizer_kind`.
        labels: Names of the answer's columns: classes, tags, no and yes, or scores.
        pad_id: The id that fills a row of `tokens` after the text.
        version: The servable version with this spec.
        optional: Which of "image" and "text" a caller may leave out, because the model was trained without
            them too (modality dropout); never both in one row. A missing image is an `image` row of zeros
            (so is an image that is black all over), a missing text a `tokens` row of `pad_id` only; in
            `serving_bytes` an empty byte string means missing.
        audio: How a clip becomes `image`, where the model takes clips in place of images: "image" in
            `optional` then means the clip. None: it takes images.
        background: Red, green and blue, 0-255, on which transparent pixels are composited. None: their alpha
            is dropped, and `serving_bytes` may date from before it read WebP and turned PNGs.
        answer: The kind of answer.
        embedding_length: Numbers in a vector of the signature `embed`; 0: no such signature.
        explain_grid: Rows and columns into which the signature `explain` divides the image; None: no such
            signature.
        tokenizer_kind: The kind of `tokenizer`, one of `duoserve.contract.TOKENIZERS`.
        serving_bytes: Whether the version has the signature `serving_bytes`. It does not if no operation
            computes the tokenizer's ids for every text.

    Raises:
        ContractError: A value out of range, labels that are repeated or do not fit the answer, more mel
            bands than the clip's windows can resolve.
    """

    image_height: int
    image_width: int
    token_length: int
    tokenizer: bytes = dataclasses.field(repr=False)
    labels: tuple[str, ...]
    version: int
    pad_id: int = 0
    optional: tuple[str, ...] = ()
    audio: AudioSpec | None = None
    background: tuple[int, int, int] | None = None
    embedding_length: int = 0
    explain_grid: tuple[int, int] | None = None
    tokenizer_kind: str = SENTENCEPIECE
    serving_bytes: bool = True
    answer: Answer = ONE_CLASS

    def __post_init__(self) -> None:
        for name in ("image_height", "image_width", "token_length", "version"):
            check_int(name, getattr(self, name), 1)
        check_int("pad_id", self.pad_id, 0)
        check_int("embedding_length", self.embedding_length, 0)
        if not isinstance(self.tokenizer, bytes) or not self.tokenizer:
            raise ContractError("Expected tokenizer to be the bytes of a tokenizer. Received: nothing")
        if self.tokenizer_kind not in TOKENIZERS:
            raise ContractError(
                f"Expected tokenizer_kind to be one of {', '.join(TOKENIZERS)}. Received: {self.tokenizer_kind!r:.80}"
                " (a newer release exported it: update duoserve)"
            )
        if not self.labels or not all(isinstance(label, str) and label for label in self.labels):
            raise ContractError(f"Expected labels to be non-empty strings, at least one. Received: {self.labels!r}")
        if len(set(self.labels)) != len(self.labels):
            repeated = sorted({label for label in self.labels if self.labels.count(label) > 1})
            raise ContractError(f"Expected labels to be distinct. Received twice: {', '.join(repeated)}")
        if not isinstance(self.optional, tuple) or not all(name in (IMAGE, TEXT) for name in self.optional):
            raise ContractError(
                f"Expected optional to be a tuple of {IMAGE!r}, {TEXT!r} or both. Received: {self.optional!r}"
            )
        # One order, so that equal specs have equal digests.
        object.__setattr__(self, "optional", tuple(name for name in (IMAGE, TEXT) if name in self.optional))
        if self.audio is not None:
            self.audio.band_edges(self.image_height)
        if self.background is not None:
            if not isinstance(self.background, tuple) or len(self.background) != 3 or self.audio is not None:
                expected = "(red, green, blue), for images only"
                raise ContractError(f"Expected background to be {expected}. Received: {self.background!r:.80}")
            for colour in self.background:
                check_int("each colour of background", colour, 0, 255)
        self.answer.check(self.labels)
        if self.explain_grid is not None:
            if not isinstance(self.explain_grid, tuple) or len(self.explain_grid) != 2:
                raise ContractError(f"Expected explain_grid to be (rows, columns). Received: {self.explain_grid!r}")
            check_int("rows of explain_grid", self.explain_grid[0], 1, self.image_height)
            check_int("columns of explain_grid", self.explain_grid[1], 1, self.image_width)

    @property
    def medium(self) -> str:
        """The model's input beside text: IMAGE or AUDIO."""
        return IMAGE if self.audio is None else AUDIO

    @property
    def bytes_input(self) -> str:
        """The input of `serving_bytes` that takes files: "image_bytes" or "audio_bytes"."""
        return f"{self.medium}_bytes"

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the fields that determine how input is prepared and answers are read."""
        content = {key: value for key, value in self._record().items() if key not in _BESIDE_DIGEST}
        canonical = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("utf-8")).hexdigest()

    def _record(self) -> dict[str, Any]:
        """The fields as JSON's types. A later field is left out if it has its default, so every other spec keeps
        its digest, and an older client can read it."""
        values = {field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)}
        return {
            name: _plain(value) for name, (value, default) in values.items() if name == "pad_id" or value != default
        }

    def to_json(self) -> str:
        """One line of JSON with `format`, `digest` and the fields."""
        record = self._record()
        needed = max(_SINCE.get(key, 1) for key in record)
        return json.dumps({"format": needed, "digest": self.digest, **record}, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> PreprocessingSpec:
        """Reads what `to_json` wrote.

        Raises:
            ContractError: Not JSON, a newer format, a wrong field, or a digest that does not match them.
        """
        try:
            record = json.loads(text)
        except ValueError as error:
            raise ContractError(f"Expected a PreprocessingSpec as JSON. Received: {head(text)}") from error
        if not isinstance(record, dict):
            raise ContractError(f"Expected a PreprocessingSpec as a JSON object. Received: {head(text)}")
        if record.get("format") not in range(1, FORMAT + 1):
            raise ContractError(
                f"Expected a PreprocessingSpec of format 1 to {FORMAT}. Received: format {record.get('format')!r}"
                " (a newer release exported it: update duoserve)"
            )
        spec = cls(
            **{name: take(record, name, int) for name in ("image_height", "image_width", "token_length", "version")},
            tokenizer=take_base64(record, "tokenizer"),
            labels=tuple(take(record, "labels", list)),
            pad_id=take(record, "pad_id", int),
            **{name: read(record, name) for name, read in _READERS.items() if name in record},
        )
        if record.get("digest") != spec.digest:
            raise ContractError(
                f"Expected digest {spec.digest} for this content. Received: {record.get('digest')!r}"
                " (the specification was changed after it was written)"
            )
        return spec


def _plain(value: Any) -> Any:
    """A field's value as JSON's types."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Answer):
        return value.record()
    if isinstance(value, AudioSpec):
        return dataclasses.asdict(value)
    return list(value) if isinstance(value, tuple) else value


def _take_tuple(record: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    return tuple(take(record, name, list))


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], str], Any]]] = {
    "optional": _take_tuple,
    "audio": lambda record, name: AudioSpec.from_record(take(record, name, dict)),
    "background": _take_tuple,
    "embedding_length": lambda record, name: take(record, name, int),
    "explain_grid": _take_tuple,
    "tokenizer_kind": lambda record, name: take(record, name, str),
    "serving_bytes": lambda record, name: record[name] is not False,
    "answer": lambda record, name: answer_from_record(take(record, name, dict)),
}
"""Of the fields that may be left out."""
