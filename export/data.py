"""Training data: a folder with images and a `manifest.csv` of `image,text,label[,split][,group]`.

`load_dataset` looks at every row and every image before anything is trained, and names all that
is wrong in one error. `encode` turns rows into arrays with the client's own preprocessing, so
that training sees exactly what serving will see.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from duoserve.contract import PreprocessingSpec
from duoserve.errors import InvalidInput
from duoserve.preprocess import Preprocessor
from export._split import hold_out

__all__ = [
    "SPLITS",
    "Arrays",
    "DataError",
    "Dataset",
    "Problem",
    "Row",
    "encode",
    "in_turn",
    "load_dataset",
    "load_held_out",
]

SPLITS: Final = ("train", "test")
"""What the column `split` may say."""

_COLUMNS: Final = ("image", "text", "label")
_MAYBE: Final = ("split", "group")
_SHOWN: Final = 20
_IN_MEMORY: Final = 2 << 30
_DECODERS: Final = min(8, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a manifest: its line (the header is 1) and why."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class DataError(ValueError):
    """The data can't be trained on. `problems` has every bad row; the text shows the first ones."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        lines = [message, *(f"  {problem}" for problem in self.problems[:_SHOWN])]
        if len(self.problems) > _SHOWN:
            lines.append(f"  … and {len(self.problems) - _SHOWN} more")
        super().__init__("\n".join(lines))


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One pair.

    Attributes:
        line: Its line in the manifest.
        image: Path of the image.
        text: The text.
        label: The class.
        split: "train" or "test".
        group: Rows of one group are never divided between training and test. Without a column
            `group`, it is the SHA-256 of the image's bytes.
    """

    line: int
    image: Path
    text: str
    label: str
    split: str
    group: str


@dataclasses.dataclass(frozen=True, slots=True)
class Dataset:
    """A manifest without a bad row.

    Attributes:
        rows: In the order of the manifest.
        labels: The classes, sorted.
        digest: SHA-256 (hex) of the images' bytes, texts, labels and split. Names of files don't count.
    """

    rows: tuple[Row, ...]
    labels: tuple[str, ...]
    digest: str

    def select(self, split: str) -> tuple[Row, ...]:
        """The rows of "train" or "test"."""
        return tuple(row for row in self.rows if row.split == split)

    def resplit(self, fraction: float, *, salt: str) -> Dataset:
        """The same rows with another choice of what is held out: a share of every class, never part of a group.

        Args:
            fraction: Share of every class to hold out, above 0 and below 1.
            salt: Another salt, another choice.
        """
        digest = hashlib.sha256(repr((self.digest, fraction, salt)).encode()).hexdigest()
        return dataclasses.replace(self, rows=_held_out(self.rows, fraction, salt), digest=digest)


@dataclasses.dataclass(frozen=True, slots=True)
class Arrays:
    """Rows, as a model takes them.

    Attributes:
        images: uint8 array of shape (batch, height, width, 3), RGB, 0-255.
        tokens: int32 array of shape (batch, token_length).
        classes: int64 array of shape (batch,): positions in the labels.
    """

    images: npt.NDArray[np.uint8]
    tokens: npt.NDArray[np.int32]
    classes: npt.NDArray[np.int64]


def load_dataset(
    folder: str | os.PathLike[str], *, seed: int = 0, test_fraction: float = 0.2, progress: bool | None = None
) -> Dataset:
    """Reads `folder/manifest.csv` and checks every row; decodes every image.

    Without a column `split`, a share of every class is held out. The choice depends on `seed` and
    the groups alone; without a column `group`, rows with the same picture are one.

    Args:
        folder: Has `manifest.csv`, UTF-8, and the images that it names relative to itself.
        seed: Another seed, another split. Unused when the manifest has a column `split`.
        test_fraction: Share to hold out when there is no column `split`, above 0 and below 1.
        progress: Whether to draw a progress bar; None draws one on a terminal only.

    Raises:
        DataError: Something is wrong; all bad rows are in it.
        OSError: The manifest can't be read.
    """
    if not 0 < test_fraction < 1:
        raise DataError(f"Expected test_fraction above 0 and below 1. Received: {test_fraction}")
    root = Path(folder)
    path = root / "manifest.csv"
    rows, digests, problems = _read(root, progress)
    has_split = all(row.split for row in rows)
    if not has_split and not problems:
        rows = list(_held_out(rows, test_fraction, f"{seed} "))
    trained = {row.label for row in rows if row.split != "test"}
    problems += [
        Problem(row.line, f"label {row.label!r} is in no training row") for row in rows if row.label not in trained
    ]
    if problems:
        bad = len({problem.line for problem in problems})
        raise DataError(f"Expected every line of {path} to be good. Received {bad} bad:", problems)
    labels = tuple(sorted(trained))
    if len(labels) < 2:
        received = ", ".join(labels) or "none"
        raise DataError(f"Expected at least two labels in the training rows of {path}. Received: {received}")
    if not any(row.split == "test" for row in rows):
        raise DataError(f"Expected at least one row to test on in {path}. Received: {len(rows)} rows, none for testing")
    return Dataset(
        rows=tuple(dataclasses.replace(row, image=root / row.image) for row in rows),
        labels=labels,
        digest=_digest(rows, digests),
    )


def load_held_out(folder: str | os.PathLike[str], *, progress: bool | None = None) -> tuple[Row, ...]:
    """The rows to test on of a folder as `load_dataset` takes it: all of them where no column `split` says which.

    Args:
        folder: Has `manifest.csv` and the images that it names.
        progress: Whether to draw a progress bar; None draws one on a terminal only.

    Raises:
        DataError: Something is wrong, in any row, or no row is held out; all bad rows are in it.
        OSError: The manifest can't be read.
    """
    root = Path(folder)
    rows, _, problems = _read(root, progress)
    if problems:
        raise DataError(f"Expected every line of {root / 'manifest.csv'} to be good. Received:", problems)
    held_out = tuple(dataclasses.replace(row, image=root / row.image) for row in rows if row.split != "train")
    if not held_out:
        raise DataError(f"Expected a row to test on in {root / 'manifest.csv'}. Received: {len(rows)} rows, none")
    return held_out


def in_turn(rows: Sequence[Row], most: int) -> list[Row]:
    """At most so many rows, one from every class in turn, so that they show each."""
    by_class: dict[str, list[Row]] = {}
    for row in rows:
        by_class.setdefault(row.label, []).append(row)
    ranked = sorted((rank, row.line, row) for members in by_class.values() for rank, row in enumerate(members))
    return [row for _, _, row in ranked[:most]]


def encode(
    rows: Sequence[Row], preprocessor: Preprocessor, *, progress: bool | None = None, description: str = "Preparing"
) -> Arrays:
    """Decodes, resizes and tokenises rows as the client does it.

    Pictures of up to 2 GiB in all are kept in memory (170,000 of 64 x 64 pixels, 14,000 of
    224 x 224); more are kept in an unnamed file in the folder for temporary files.

    Raises:
        DataError: An image has changed since it was checked.
        OSError: No room for the temporary file.
    """
    spec = preprocessor.spec
    images = _room((len(rows), spec.image_height, spec.image_width, 3))

    def prepare(position: int) -> Problem | None:
        try:
            images[position] = preprocessor.image(rows[position].image)
        except InvalidInput as error:
            return Problem(rows[position].line, error.message)
        return None

    with ThreadPoolExecutor(_DECODERS) as pool:
        found = pool.map(prepare, range(len(rows)))
        problems = [problem for problem in _bar(found, len(rows), description, progress) if problem]
    if problems:
        raise DataError("Expected images to stay as they were checked. Received:", problems)
    position = {label: number for number, label in enumerate(spec.labels)}
    tokens = [preprocessor.tokens(row.text) for row in rows]
    return Arrays(
        images=images,
        tokens=np.stack(tokens) if tokens else np.zeros((0, spec.token_length), np.int32),
        classes=np.array([position[row.label] for row in rows], np.int64),
    )


def _read(root: Path, progress: bool | None) -> tuple[list[Row], list[str], list[Problem]]:
    """The good rows of a folder, the SHA-256 of their images, and what is wrong with the others."""
    path = root / "manifest.csv"
    if not path.is_file():
        raise DataError(f"Expected a file manifest.csv in {root}. Received: none")
    problems: list[Problem] = []
    rows = list(_read_rows(path, problems))
    digests = _check_images(rows, root.resolve(), problems, progress)
    problems += _divided(rows)
    rows = [dataclasses.replace(row, group=row.group or digest) for row, digest in zip(rows, digests, strict=True)]
    return rows, digests, problems


def _read_rows(path: Path, problems: list[Problem]) -> Iterator[Row]:
    """The rows that have all that they need; what is wrong with the others goes to `problems`."""
    reader = csv.reader(_read_lines(path, problems), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header) or not {*_COLUMNS} <= {*header} <= {*_COLUMNS, *_MAYBE}:
            received = ",".join(header) or "none"
            raise DataError(
                f"Expected the columns image,text,label and maybe split and group in {path}. Received: {received}"
            )
        line = reader.line_num + 1
        for fields in reader:
            if fields:
                if len(fields) != len(header):
                    problems.append(Problem(line, f"expected {len(header)} columns, received {len(fields)}"))
                else:
                    row = dict(zip(header, fields, strict=True))
                    reasons = list(_reasons(row))
                    problems.extend(Problem(line, reason) for reason in reasons)
                    if not reasons:
                        label, (split, group) = row["label"].strip(), (row.get(name, "") for name in _MAYBE)
                        yield Row(line, Path(row["image"]), row["text"], label, split, group.strip())
            line = reader.line_num + 1
    except csv.Error as error:
        problems.append(Problem(reader.line_num, f"not CSV: {error}; nothing after it was read"))


def _read_lines(path: Path, problems: list[Problem]) -> Iterator[str]:
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # Excel's byte order mark
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            problems.append(Problem(number, f"not UTF-8: byte {line[error.start]:#04x} at column {error.start + 1}"))
            text = line.decode("utf-8", errors="replace")
        if "\0" in text:  # where Python 3.10's csv stops
            problems.append(Problem(number, f"a NUL character at column {text.index(chr(0)) + 1}"))
        yield text.replace("\0", "�")


def _reasons(row: dict[str, str]) -> Iterator[str]:
    for column in _COLUMNS:
        if not row[column].strip():
            yield f"{column} is empty"
    if "split" in row and row["split"] not in SPLITS:
        yield f"expected split to be {' or '.join(SPLITS)}, received {row['split']!r}"


def _held_out(rows: Sequence[Row], fraction: float, salt: str) -> tuple[Row, ...]:
    is_test = hold_out([(row.label, row.group) for row in rows], fraction, salt=salt)
    return tuple(dataclasses.replace(row, split=SPLITS[each]) for row, each in zip(rows, is_test, strict=True))


def _divided(rows: Sequence[Row]) -> Iterator[Problem]:
    """Where the manifest has both columns, its split must keep its groups together."""
    trained = {row.group: row.line for row in rows if row.split == "train" and row.group}
    for row in rows:
        if row.split == "test" and row.group in trained:
            line = trained[row.group]
            yield Problem(row.line, f"group {row.group!r} is in both splits: line {line} is for training")


def _check_images(rows: Sequence[Row], root: Path, problems: list[Problem], progress: bool | None) -> list[str]:
    """SHA-256 of every image; empty where it is bad."""
    # Any size does: it is the decoding that counts.
    spec = PreprocessingSpec(
        image_height=32, image_width=32, token_length=1, tokenizer=b"unused", labels=("unused",), version=1
    )
    preprocessor = Preprocessor(spec)

    def check(row: Row) -> tuple[str, str]:
        try:
            path = (root / row.image).resolve()
            if not path.is_relative_to(root):
                return "", f"image {str(row.image)!r} is outside the folder"
            if not path.is_file():
                return "", f"image {str(row.image)!r} does not exist"
            data = path.read_bytes()
            preprocessor.image(data)
        except InvalidInput as error:
            return "", f"image {str(row.image)!r}: {error.message}"
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
            return "", f"image {str(row.image)!r} can't be read: {error}"
        return hashlib.sha256(data).hexdigest(), ""

    digests = []
    with ThreadPoolExecutor(_DECODERS) as pool:
        checked = _bar(pool.map(check, rows), len(rows), "Checking images", progress)
        for row, (digest, reason) in zip(rows, checked, strict=True):
            digests.append(digest)
            if reason:
                problems.append(Problem(row.line, reason))
    return digests


def _digest(rows: Sequence[Row], digests: Sequence[str]) -> str:
    whole = hashlib.sha256()
    for row, digest in zip(rows, digests, strict=True):
        whole.update(repr((digest, row.text, row.label, row.split)).encode("utf-8"))
    return whole.hexdigest()


def _room(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    size = int(np.prod(shape))
    if size <= _IN_MEMORY:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile() as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, not a SIGBUS later
        return np.memmap(file, np.uint8, "r+", shape=shape)


def _bar(items: Any, total: int, description: str, progress: bool | None) -> Any:
    return tqdm(items, total=total, desc=description, unit="image", disable=None if progress is None else not progress)
