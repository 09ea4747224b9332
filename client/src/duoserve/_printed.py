"""Answers and specs as the command line prints them: as text lines, and as JSON's types."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from duoserve.contract import AudioSpec, PreprocessingSpec, SignatureSpec, signatures
from duoserve.explanation import Explanation
from duoserve.results import Prediction


def prediction_record(answer: Prediction, k: int) -> dict[str, Any]:
    """The answer as a record; only the k most probable classes or tags."""
    given = {name: getattr(answer, name) for name in answer.kind.gives if name not in ("probabilities", "top")}
    if "top" in answer.kind.gives:
        given["top"] = [scored._asdict() for scored in answer.top(k)]
    return {**given, "version": answer.version, "target": answer.target, "sent": answer.sent}


def prediction_lines(answer: Prediction, k: int) -> Iterator[str]:
    """The k most probable classes; all tags that were chosen and the k most probable; all scores."""
    rows: list[tuple[str, str]] = []
    if "scores" in answer.kind.gives:
        rows = [(name, f"{value:.6g} {answer.units[name]}".rstrip()) for name, value in answer.scores.items()]
    elif "tags" in answer.kind.gives:
        tags = answer.tags
        rows = [
            (scored.label, f"{scored.probability:.4f}{'  tag' if scored.label in tags else ''}")
            for place, scored in enumerate(answer.top(len(answer.labels)))
            if place < k or scored.label in tags
        ]
    else:
        rows = [(scored.label, f"{scored.probability:.4f}") for scored in answer.top(k)]
    width = max((len(name) for name, _ in rows), default=0)
    yield from (f"{name:<{width}}  {value}" for name, value in rows)
    yield f"version {answer.version}, sent as {answer.sent}"


def predicted_columns(answer: Prediction) -> dict[str, Any]:
    """The answer as columns of a table: the class and its probability, the list of tags, or a column for each score."""
    if "scores" in answer.kind.gives:
        return {f"predicted_{name}": value for name, value in answer.scores.items()}
    names = (name for name in answer.kind.gives if name not in ("probabilities", "top"))
    return {f"predicted_{name}": getattr(answer, name) for name in names}


def explanation_record(found: Explanation, out: Path | None) -> dict[str, Any]:
    """The explanation; `out` is where the heat map was written."""
    return {
        "label": found.label,
        found.kind.value: found.value,
        "image_share": found.image_share,
        "text_share": found.text_share,
        "input_relevance": found.input_relevance._asdict(),
        "image_relevance": found.image_relevance.tolist(),
        "words": [word._asdict() for word in found.words],
        "version": found.version,
        "target": found.target,
        "out": None if out is None else str(out),
    }


def explanation_lines(found: Explanation, out: Path | None, medium: str, in_colour: bool) -> Iterator[str]:
    """The same as text lines."""
    yield f"{found.label}  {found.value:.4f}" if found.kind.decided else f"{found.label}  {found.value:.6g}"
    yield f"{medium} {found.image_share:.0%}, text {found.text_share:.0%}"
    if in_colour:
        yield found.ansi()
    yield from (f"  {word.relevance:+.4f}  {word.text}" for word in found.words)
    yield f"version {found.version}" + (f", heat map in {out}" if out is not None else "")


def describe_record(spec: PreprocessingSpec, served: Mapping[str, SignatureSpec]) -> dict[str, Any]:
    """The spec without its tokenizer, the signatures, and whether they follow the contract."""
    promised = signatures(spec)
    return {
        "version": spec.version,
        "digest": spec.digest,
        "image": [spec.image_height, spec.image_width, 3],
        "token_length": spec.token_length,
        "pad_id": spec.pad_id,
        "tokenizer": spec.tokenizer_kind,
        "serving_bytes": spec.serving_bytes,
        "optional": list(spec.optional),
        "background": spec.background,
        "audio": dataclasses.asdict(spec.audio) if spec.audio else None,
        "answer": spec.answer.record(),
        "labels": list(spec.labels),
        "signatures": {name: dataclasses.asdict(signature) for name, signature in served.items()},
        "follows_contract": all(_follows(served.get(name), promised[name]) for name in promised),
    }


def describe_lines(spec: PreprocessingSpec, served: Mapping[str, SignatureSpec]) -> Iterator[str]:
    """The same as text lines."""
    promised = signatures(spec)
    yield f"version       {spec.version}"
    yield f"digest        {spec.digest}"
    yield f"image         {spec.image_height} x {spec.image_width} pixels, RGB"
    if spec.background is not None:
        yield f"background    {', '.join(map(str, spec.background))} under transparent pixels"
    if spec.audio is not None:
        yield f"audio         {_audio_text(spec, spec.audio)}"
    yield f"tokens        {spec.token_length}, padded with {spec.pad_id}"
    yield f"tokenizer     {spec.tokenizer_kind}, {len(spec.tokenizer)} bytes"
    if not spec.serving_bytes:
        yield "raw input     not accepted (no serving_bytes): the client prepares tensors, REST callers must do so"
    yield f"optional      {' or '.join(spec.optional) or 'nothing'}"
    yield f"answer        {spec.answer.title}"
    yield f"labels        {', '.join(_labels(spec))}"
    for name, signature in served.items():
        note = "" if name not in promised or _follows(signature, promised[name]) else "  (does not follow the contract)"
        yield f"\n{name}{note}"
        for tensor in signature.inputs:
            yield f"  in   {tensor.name:<14} {tensor}"
        for tensor in signature.outputs:
            yield f"  out  {tensor.name:<14} {tensor}"


def _labels(spec: PreprocessingSpec) -> Iterator[str]:
    """The labels, each with its detail: the threshold of a tag, the unit of a score."""
    notes = [values for name, values in spec.answer.record().items() if name != "kind"]
    for label, *found in zip(spec.labels, *notes, strict=True):
        shown = " ".join(str(each) for each in found if each != "")
        yield f"{label} ({shown})" if shown else label


def _audio_text(spec: PreprocessingSpec, audio: AudioSpec) -> str:
    seconds = audio.clip_samples(spec.image_width) / audio.sample_rate
    return (
        f"{seconds:.2f} s at {audio.sample_rate} Hz,"
        f" as {spec.image_height} bands from {audio.low_hz} to {audio.high_hz} Hz in {spec.image_width} frames"
    )


def _follows(served: SignatureSpec | None, promised: SignatureSpec) -> bool:
    """Whether names and dtypes follow the contract, and no fixed size differs."""
    if served is None:
        return False
    for ours, theirs in ((promised.inputs, served.inputs), (promised.outputs, served.outputs)):
        found = {tensor.name: tensor for tensor in theirs}
        if found.keys() != {tensor.name for tensor in ours}:
            return False
        for tensor in ours:
            other = found[tensor.name]
            sizes = zip(tensor.shape, other.shape, strict=False)
            if other.dtype != tensor.dtype or any(None not in pair and pair[0] != pair[1] for pair in sizes):
                return False
    return True
