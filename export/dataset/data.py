"""Training data: a folder with images and a `manifest.csv` of `image,text,label[,split][,group]`.

For a model of clips the folder has recordings, and the first column is called `audio`. For one that answers with
scores there is a column for each in place of `label`: see `export.dataset.targets`.

`load_dataset` checks every row and every image before anything is trained, and reports all
problems in one error. `encode` turns rows into arrays with the client's own preprocessing, so
training sees exactly what serving will see.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from duoserve.contract import IMAGE, ONE_CLASS, Answer
from duoserve.errors import InvalidInput
from duoserve.preprocessing.image_headers import Background
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.manifest_csv import DECODERS, SPLITS, Manifest, read_manifest
from export.dataset.rows import DataError, Problem, Row
from export.dataset.split import hold_out
from export.dataset.targets import TARGETS, targets
from export.defaults import BACKGROUND
from export.progress import progress_bar

_IN_MEMORY: Final = 2 << 30
_CHANGED: Final = "Expected images not to change after they were checked. Received:"


@dataclasses.dataclass(frozen=True, slots=True)
class Dataset:
    """A manifest without bad rows.

    Attributes:
        rows: In the order of the manifest.
        labels: The classes or tags, sorted; no and yes; or the scores.
        digest: SHA-256 (hex) of the images' bytes, texts, labels or scores, and split. File names don't count.
        medium: "image", or "audio" for recordings.
        answer: The kind of answer. Tags have thresholds of 0.5: training chooses better ones.
        note: A warning about the images; empty without one.
    """

    rows: tuple[Row, ...]
    labels: tuple[str, ...]
    digest: str
    medium: str = IMAGE
    answer: Answer = ONE_CLASS
    note: str = ""

    def select(self, split: str) -> tuple[Row, ...]:
        """The rows of "train" or "test"."""
        return tuple(row for row in self.rows if row.split == split)

    def resplit(self, fraction: float, *, salt: str) -> Dataset:
        """The same rows with another split: it holds out a share of every class, and never splits a group.

        Args:
            fraction: Share of every class to hold out, above 0 and below 1.
            salt: Another salt, another choice.
        """
        digest = hashlib.sha256(repr((self.digest, fraction, salt)).encode()).hexdigest()
        return dataclasses.replace(self, rows=_held_out(self.rows, self.answer, fraction, salt), digest=digest)


class HeldOut(NamedTuple):
    """Rows that a model has not seen, and their kind of answer."""

    answer: str
    rows: tuple[Row, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Arrays:
    """Rows, as a model takes them.

    Attributes:
        images: uint8 array of shape (batch, height, width, 3), RGB, 0-255.
        tokens: int32 array of shape (batch, token_length).
        targets: float32 array of shape (batch, labels): 1 for the class and for every tag, else 0; the scores.
    """

    images: npt.NDArray[np.uint8]
    tokens: npt.NDArray[np.int32]
    targets: npt.NDArray[np.float32]

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """int64 array of shape (batch,): positions in the labels, where the answer is one class."""
        found: npt.NDArray[np.int64] = self.targets.argmax(axis=1)
        return found


def load_dataset(
    folder: str | os.PathLike[str],
    *,
    answer: str | None = None,
    seed: int = 0,
    test_fraction: float = 0.2,
    background: Background = BACKGROUND,
    progress: bool | None = None,
) -> Dataset:
    """Reads `folder/manifest.csv` and checks every row; decodes every image or recording.

    Without a column `split`, a share of every class (or tag) is held out. The choice depends only on `seed` and
    the groups; without a column `group`, rows with the same image are one.

    Args:
        folder: Has `manifest.csv`, UTF-8, and the images (or WAV, FLAC and OGG) that it names
            relative to itself.
        answer: The kind of answer, a key of `duoserve.contract.ANSWERS`. None: scores where there is
            no column `label`, tags where a label has a bar, else one class.
        seed: Another seed, another split. Unused when the manifest has a column `split`.
        test_fraction: Share to hold out when there is no column `split`, above 0 and below 1.
        background: On which transparent pixels will be composited, for the note on images of one colour.
        progress: Whether to draw a progress bar; None draws one on a terminal only.

    Raises:
        DataError: Bad rows or columns; the error lists all bad rows.
        OSError: The manifest can't be read.
    """
    if not 0 < test_fraction < 1:
        raise DataError(f"Expected test_fraction above 0 and below 1. Received: {test_fraction}")
    root = Path(folder)
    path = root / "manifest.csv"
    manifest = read_manifest(root, answer, progress, background)
    rows, found, problems = manifest.rows, manifest.targets, manifest.problems
    if not problems and not all(row.split for row in rows):
        rows = list(_held_out(rows, found.answer, test_fraction, f"{seed} "))
    trained = {name for row in rows if row.split != "test" for name in found.names(row)}
    problems += [
        Problem(row.line, f"label {name!r} is in no training row")
        for row in rows
        for name in found.names(row)
        if name not in trained
    ]
    if problems:
        bad = len({problem.line for problem in problems})
        raise DataError(f"Expected every line of {path} to be valid. Received {bad} invalid:", problems)
    training = [row for row in rows if row.split != "test"]
    labels = found.labels(training)
    if len(training) == len(rows):
        raise DataError(f"Expected at least one held-out row in {path}. Received: {len(rows)} rows, none held out")
    return Dataset(
        rows=tuple(dataclasses.replace(row, image=root / row.image) for row in rows),
        labels=labels,
        digest=_digest(rows, manifest.digests),
        medium=manifest.medium,
        answer=found.made(labels),
        note=_note(manifest, background),
    )


def load_held_out(
    folder: str | os.PathLike[str], *, answer: str | None = None, progress: bool | None = None
) -> HeldOut:
    """The held-out rows of a folder for `load_dataset`; all of its rows if it has no column `split`.

    Args:
        folder: Has `manifest.csv` and the images that it names.
        answer: The kind of answer; None: as `load_dataset`.
        progress: Whether to draw a progress bar; None draws one on a terminal only.

    Raises:
        DataError: Bad rows, listed in the error, or no row is held out.
        OSError: The manifest can't be read.
    """
    root = Path(folder)
    path = root / "manifest.csv"
    manifest = read_manifest(root, answer, progress)
    if manifest.medium != IMAGE:
        raise DataError(f"Expected a column image in {path}. Received: {manifest.medium}")
    if manifest.problems:
        raise DataError(f"Expected every line of {path} to be valid. Received:", manifest.problems)
    held_out = tuple(dataclasses.replace(row, image=root / row.image) for row in manifest.rows if row.split != "train")
    if not held_out:
        raise DataError(f"Expected a held-out row in {path}. Received: {len(manifest.rows)} rows, none")
    return HeldOut(manifest.targets.answer.kind, held_out)


def in_turn(rows: Sequence[Row], most: int) -> list[Row]:
    """At most this many rows, one from every class (or set of tags) in turn, to cover them all."""
    seen: Counter[str] = Counter()
    ranked = []
    for row in rows:
        ranked.append((seen[row.label], row.line, row))
        seen[row.label] += 1
    return [row for _, _, row in sorted(ranked)[:most]]


def encode(
    rows: Sequence[Row], preprocessor: Preprocessor, *, progress: bool | None = None, description: str = "Preparing"
) -> Arrays:
    """Decodes, resizes and tokenises rows as the client does.

    Images of up to 2 GiB in all are kept in memory (170,000 of 64 x 64 pixels, 14,000 of
    224 x 224); more are kept in an unnamed file in the folder for temporary files.

    Raises:
        DataError: An image has changed since it was checked, or a row has a label that the spec does not have.
        OSError: No room for the temporary file.
    """
    spec = preprocessor.spec
    texts = encode_texts(rows, preprocessor)  # first, so that an invalid label is found at once
    images = _room((len(rows), spec.image_height, spec.image_width, 3))

    def prepare(position: int) -> Problem | None:
        try:
            images[position] = preprocessor.decoded(rows[position].image.read_bytes())
        except (InvalidInput, OSError) as error:
            return Problem(rows[position].line, str(error))
        return None

    with ThreadPoolExecutor(DECODERS) as pool:
        found = pool.map(prepare, range(len(rows)))
        problems = [problem for problem in progress_bar(found, description, progress, total=len(rows)) if problem]
    if problems:
        raise DataError(_CHANGED, problems)
    return Arrays(images, *texts)


def stream(rows: Sequence[Row], preprocessor: Preprocessor) -> Arrays:
    """Like `encode`, but `images` is a `StreamedImages`, which can only be indexed by arrays of positions."""
    images = cast("npt.NDArray[np.uint8]", StreamedImages(rows, preprocessor))
    return Arrays(images, *encode_texts(rows, preprocessor))


class StreamedImages:
    """`Arrays.images` for rows that memory can't hold: they are decoded when a batch needs them.

    Attributes:
        problem: The first error, kept because TensorFlow does not pass on errors of this kind.
    """

    def __init__(self, rows: Sequence[Row], preprocessor: Preprocessor) -> None:
        self._rows = rows
        self._preprocessor = preprocessor
        self.problem: DataError | None = None

    def __getitem__(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        return np.stack([self._decoded(self._rows[position]) for position in positions])

    def _decoded(self, row: Row) -> npt.NDArray[np.uint8]:
        try:
            return self._preprocessor.decoded(row.image.read_bytes())
        except (InvalidInput, OSError) as error:
            self.problem = DataError(_CHANGED, [Problem(row.line, str(error))])
            raise self.problem from error


def encode_pairs(
    pairs: Iterable[tuple[bytes, str]], preprocessor: Preprocessor
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """`images` and `tokens` of at least one encoded image and text; a missing one is empty."""
    rows = [(preprocessor.decoded(data or None), preprocessor.tokens(text or None)) for data, text in pairs]
    return np.stack([image for image, _ in rows]), np.stack([tokens for _, tokens in rows])


def encode_texts(
    rows: Sequence[Row], preprocessor: Preprocessor
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """`tokens` and `targets` of `Arrays`.

    Raises:
        DataError: A row with a label that the spec does not have.
    """
    spec = preprocessor.spec
    tokens = [preprocessor.tokens(row.text) for row in rows]
    stacked = np.stack(tokens) if tokens else np.zeros((0, spec.token_length), np.int32)
    return stacked, targets(rows, spec.answer, spec.labels)


def _note(manifest: Manifest, background: Background) -> str:
    if not manifest.one_colour:
        return ""
    first = manifest.one_colour[0]
    return (
        f"{len(manifest.one_colour)} of {len(manifest.rows)} images have a single colour, with transparent pixels on"
        f" {','.join(map(str, background))}; the first is {str(first.image)!r} in line {first.line}"
    )


def _held_out(rows: Sequence[Row], answer: Answer | type[Answer], fraction: float, salt: str) -> tuple[Row, ...]:
    strata = TARGETS[answer.kind].strata(rows)
    is_test = hold_out(zip(strata, (row.group for row in rows), strict=True), fraction, salt=salt)
    return tuple(dataclasses.replace(row, split=SPLITS[each]) for row, each in zip(rows, is_test, strict=True))


def _digest(rows: Sequence[Row], digests: Sequence[str]) -> str:
    whole = hashlib.sha256()
    for row, digest in zip(rows, digests, strict=True):
        whole.update(repr((digest, row.text, row.scores or row.label, row.split)).encode("utf-8"))
    return whole.hexdigest()


def _room(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    size = int(np.prod(shape))
    if size <= _IN_MEMORY:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile() as file:
        os.posix_fallocate(file.fileno(), 0, size)  # so that a full disk is an error here, not a SIGBUS later
        return np.memmap(file, np.uint8, "r+", shape=shape)
