"""The manifest of a data folder: its rows, and all that is wrong with them or with the files they name."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

from tqdm import tqdm

from duoserve.contract import AUDIO, IMAGE, AudioSpec, PreprocessingSpec
from duoserve.errors import InvalidInput
from duoserve.preprocessing.image_headers import Background
from duoserve.preprocessing.preprocessor import Preprocessor
from export.defaults import BACKGROUND

__all__ = ["DECODERS", "SPLITS", "DataError", "Manifest", "Problem", "Row", "bar", "read_manifest"]

SPLITS: Final = ("train", "test")
"""What the column `split` may say."""

DECODERS: Final = min(8, os.cpu_count() or 1)
"""Threads that decode."""

_MEDIA: Final = (IMAGE, AUDIO)
_COLUMNS: Final = ("text", "label")
_MAYBE: Final = ("split", "group")
_SHOWN: Final = 20


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
        image: Path of the image, or of the recording.
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


@dataclasses.dataclass(slots=True)
class Manifest:
    """What was found in a folder.

    Attributes:
        medium: IMAGE or AUDIO.
        rows: The good ones.
        digests: SHA-256 (hex) of the files of `rows`; empty where one is bad.
        problems: What is wrong with the others.
        one_colour: Rows whose image has a single colour.
    """

    medium: str
    rows: list[Row]
    digests: list[str]
    problems: list[Problem]
    one_colour: list[Row]


def read_manifest(root: Path, progress: bool | None, background: Background = BACKGROUND) -> Manifest:
    """Reads `manifest.csv` and every file that it names."""
    path = root / "manifest.csv"
    if not path.is_file():
        raise DataError(f"Expected a file manifest.csv in {root}. Received: none")
    problems: list[Problem] = []
    medium, rows = _read_rows(path, problems)
    checked = _check_files(rows, medium, root.resolve(), background, progress)
    problems += [Problem(row.line, each.reason) for row, each in zip(rows, checked, strict=True) if each.reason]
    problems += _divided(rows)
    one_colour = [row for row, each in zip(rows, checked, strict=True) if each.is_one_colour and medium == IMAGE]
    rows = [dataclasses.replace(row, group=row.group or each.digest) for row, each in zip(rows, checked, strict=True)]
    return Manifest(medium, rows, [each.digest for each in checked], problems, one_colour)


def _read_rows(path: Path, problems: list[Problem]) -> tuple[str, list[Row]]:
    """The medium, and the rows that have all that they need; what is wrong with others goes to `problems`."""
    reader = csv.reader(_read_lines(path, problems), strict=True)
    rows: list[Row] = []
    try:
        header = next(reader, [])
        media = [name for name in _MEDIA if name in header]
        if (
            len(set(header)) < len(header)
            or len(media) != 1
            or not {*_COLUMNS} <= {*header} <= {*media, *_COLUMNS, *_MAYBE}
        ):
            received = ",".join(header) or "none"
            raise DataError(
                f"Expected the columns image,text,label and maybe split and group (audio in place of image) in {path}."
                f" Received: {received}"
            )
        rows.extend(_rows(reader, header, media[0], problems))
    except csv.Error as error:
        problems.append(Problem(reader.line_num, f"not CSV: {error}; nothing after it was read"))
    return media[0], rows


def _rows(reader: Any, header: list[str], medium: str, problems: list[Problem]) -> Iterator[Row]:
    line = reader.line_num + 1
    for fields in reader:
        if fields:
            if len(fields) != len(header):
                problems.append(Problem(line, f"expected {len(header)} columns, received {len(fields)}"))
            else:
                row = dict(zip(header, fields, strict=True))
                reasons = list(_reasons(row, medium))
                problems.extend(Problem(line, reason) for reason in reasons)
                if not reasons:
                    label, group = _name(row["label"]), _name(row.get("group", ""))
                    yield Row(line, Path(row[medium]), row["text"], label, row.get("split", ""), group)
        line = reader.line_num + 1


def _name(text: str) -> str:
    """Composed (NFC): the same name typed on another system may come decomposed, and would be another class."""
    return unicodedata.normalize("NFC", text).strip()


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


def _reasons(row: dict[str, str], medium: str) -> Iterator[str]:
    for column in (medium, *_COLUMNS):
        if not row[column].strip():
            yield f"{column} is empty"
    if "split" in row and row["split"] not in SPLITS:
        yield f"expected split to be {' or '.join(SPLITS)}, received {row['split']!r}"


def _divided(rows: Sequence[Row]) -> Iterator[Problem]:
    """Where the manifest has both columns, its split must keep its groups together."""
    trained = {row.group: row.line for row in rows if row.split == "train" and row.group}
    for row in rows:
        if row.split == "test" and row.group in trained:
            line = trained[row.group]
            yield Problem(row.line, f"group {row.group!r} is in both splits: line {line} is for training")


class _Checked(NamedTuple):
    """SHA-256 of a file, what is wrong with it, and whether its image has a single colour."""

    digest: str
    reason: str = ""
    is_one_colour: bool = False


def _check_files(
    rows: Sequence[Row], medium: str, root: Path, background: Background, progress: bool | None
) -> list[_Checked]:
    """What there is to know about every image or recording."""
    # Any size does: it is the decoding that counts.
    spec = PreprocessingSpec(
        image_height=32,
        image_width=32,
        token_length=1,
        tokenizer=b"unused",
        labels=("unused",),
        version=1,
        audio=AudioSpec() if medium == AUDIO else None,
        background=background if medium == IMAGE else None,
    )
    preprocessor = Preprocessor(spec)

    def check(row: Row) -> _Checked:
        name = f"{medium} {str(row.image)!r}"
        try:
            path = (root / row.image).resolve()
            if not path.is_relative_to(root):
                return _Checked("", f"{name} is outside the folder")
            if not path.is_file():
                return _Checked("", f"{name} does not exist")
            data = path.read_bytes()
            pixels = preprocessor.decoded(data)
        except InvalidInput as error:
            return _Checked("", f"{name}: {error.message}")
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
            return _Checked("", f"{name} can't be read: {error}")
        return _Checked(hashlib.sha256(data).hexdigest(), is_one_colour=bool((pixels == pixels[0, 0]).all()))

    with ThreadPoolExecutor(DECODERS) as pool:
        return list(bar(pool.map(check, rows), len(rows), "Checking files", progress))


def bar(items: Any, total: int, description: str, progress: bool | None) -> Any:
    return tqdm(items, total=total, desc=description, unit="row", disable=None if progress is None else not progress)
