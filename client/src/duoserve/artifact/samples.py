"""Golden samples: inputs with the answers of a version at its export.

Export writes them beside the model, the gate replays them before a version is published,
and a rollout replays them on every live replica before a label moves.
"""

import base64
import binascii
import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Final

from duoserve.contract import Answer, ContractError, Scores
from duoserve.preprocessing.audio import Clip

GOLDEN_PATH: Final = "assets.extra/golden.json"  # relative to the folder of a version
FORMAT: Final = 1


@dataclasses.dataclass(frozen=True, slots=True)
class GoldenSample:
    """One raw input and the exported model's answer."""

    image_bytes: bytes = dataclasses.field(repr=False)  # a JPEG, PNG or WebP of any size; empty when it is missing
    text: str  # as a user types it; empty when it is missing
    tokens: tuple[int, ...]  # the token_length ids of the text
    values: tuple[float, ...]  # the Keras model's answer, in float32: a probability or score for each label
    decision: str  # the same as one text: see `duoserve.contract.Answer.decision`
    audio_bytes: bytes = dataclasses.field(default=b"", repr=False)  # a WAV, where the model takes audio
    embedding: tuple[float, ...] = dataclasses.field(default=(), repr=False)  # empty without the signature `embed`

    @property
    def encoded(self) -> bytes:
        """The image or the recording; empty when it is missing."""
        return self.image_bytes or self.audio_bytes

    @property
    def pair(self) -> tuple[bytes | Clip | None, str | None]:
        """Image or Clip and text as `Client.predict` takes them: None for what is missing."""
        return Clip(self.audio_bytes) if self.audio_bytes else self.image_bytes or None, self.text or None


def dump_samples(samples: Sequence[GoldenSample], answer: Answer) -> str:
    """JSON of the samples, one a line: `values` under the name of the answer's output, `decision` as `label`."""
    lines = ",\n".join(json.dumps(_record(sample, answer.output), ensure_ascii=False) for sample in samples)
    return f'{{"format": {FORMAT}, "samples": [\n{lines}\n]}}\n'


def load_samples(text: str | bytes) -> tuple[GoldenSample, ...]:
    """Reads what `dump_samples` wrote. Raises ContractError for anything else."""
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ContractError(f"Expected golden samples as JSON. Received: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ContractError(f"Expected golden samples of format {FORMAT}. Received: {str(text)[:60]!r}")
    rows = record.get("samples")
    if not isinstance(rows, list) or not rows:
        raise ContractError("Expected at least one golden sample. Received: none")
    return tuple(_sample(position, row) for position, row in enumerate(rows))


def _record(sample: GoldenSample, output: str) -> dict[str, Any]:
    names = {"values": output, "decision": "label"}
    record = {names.get(name, name): value for name, value in dataclasses.asdict(sample).items()}
    for name in ("image_bytes", "audio_bytes"):
        record[name] = base64.b64encode(record[name]).decode("ascii")
    for name in ("audio_bytes", "embedding"):  # older readers expect it so
        if not record[name]:
            del record[name]
    return record


def _sample(position: int, row: Any) -> GoldenSample:
    try:
        return GoldenSample(
            image_bytes=base64.b64decode(row["image_bytes"], validate=True),
            text=_text(row["text"]),
            tokens=tuple(map(int, row["tokens"])),
            values=tuple(map(float, row[Scores.output if Scores.output in row else "probabilities"])),
            decision=_text(row["label"]),
            audio_bytes=base64.b64decode(row.get("audio_bytes", ""), validate=True),
            embedding=tuple(map(float, row.get("embedding", ()))),
        )
    except (AttributeError, KeyError, TypeError, ValueError, binascii.Error) as error:
        raise ContractError(
            f"Expected golden sample {position} to have image_bytes (base64), text, tokens, probabilities or scores,"
            f" and label. Received: {type(error).__name__}: {error}"
        ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value
