"""The manifest of a data folder: its rows, and all problems of the rows and of their files."""

import csv
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from duoserve.contract import AUDIO, IMAGE, AudioSpec, PreprocessingSpec, normal_name
from duoserve.errors import InvalidInput
from duoserve.preprocessing.image_headers import Background
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.rows import DataError, Problem, Row
from export.dataset.targets import TARGETS, Targets, find_kind
from export.defaults import BACKGROUND
from export.progress import progress_bar

SPLITS: Final = ("train", "test")
"""The values of the column `split`."""

DECODERS: Final = min(8, os.cpu_count() or 1)
"""Threads that decode."""

_MEDIA: Final = (IMAGE, AUDIO)
_MAYBE: Final = ("split", "group")


class Manifest(NamedTuple):
    """The content of a data folder.

    Attributes:
        medium: IMAGE or AUDIO.
        targets: The kind of answer of its rows.
        rows: The valid rows.
        digests: SHA-256 (hex) of the files of `rows`; empty if a row is invalid.
        problems: The problems of the other rows.
        one_colour: Rows whose image has a single colour.
    """

    medium: str
    targets: Targets
    rows: list[Row]
    digests: list[str]
    problems: list[Problem]
    one_colour: list[Row]


def read_manifest(
    root: Path, answer: str | None, progress: bool | None, background: Background = BACKGROUND
) -> Manifest:
    """Reads the manifest of a folder, and checks every row and file.

    Args:
        root: Has `manifest.csv`.
        answer: The kind of answer, a key of `duoserve.contract.ANSWERS`; None: detected from the columns and labels.
        progress: Whether to draw a progress bar; None draws one on a terminal only.
        background: On which transparent pixels are composited.

    Raises:
        DataError: No manifest, or other columns.
    """
    path = root / "manifest.csv"
    if not path.is_file():
        raise DataError(f"Expected a file manifest.csv in {root}. Received: none")
    problems: list[Problem] = []
    header, lines = _read_fields(path, problems)
    media = [name for name in _MEDIA if name in header]
    columns = [name for name in header if name not in {*_MEDIA, "text", *_MAYBE}]
    targets = TARGETS[answer or find_kind(columns, (fields for _, fields in lines))](columns)
    misfit = targets.misfit()
    if len(set(header)) < len(header) or len(media) != 1 or "text" not in header or misfit:
        raise DataError(
            f"Expected the columns {misfit or 'image,text,label'} and maybe split and group (audio in place of image)"
            f" in {path}. Received: {','.join(header) or 'none'}"
        )
    (medium,) = media
    rows = []
    for line, fields in lines:
        reasons = [*_reasons(fields, medium), *targets.reasons(fields)]
        problems.extend(Problem(line, reason) for reason in reasons)
        if not reasons:
            split, group = fields.get("split", ""), normal_name(fields.get("group", ""))
            said = {"label": "", **targets.read(fields)}
            rows.append(Row(line, Path(fields[medium]), fields["text"], split=split, group=group, **said))
    problems += _divided(rows)
    checked = _check_files(rows, medium, root.resolve(), background, progress)
    found = Manifest(medium, targets, [], [each.digest for each in checked], problems, [])
    for row, each in zip(rows, checked, strict=True):
        found.rows.append(dataclasses.replace(row, group=row.group or each.digest))
        if each.reason:
            problems.append(Problem(row.line, each.reason))
        if each.is_one_colour and medium == IMAGE:
            found.one_colour.append(row)
    return found


def _read_fields(path: Path, problems: list[Problem]) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The header, and the valid lines: number and values by column. Problems are added to `problems`."""
    reader = csv.reader(_read_lines(path, problems), strict=True)
    header: list[str] = []
    lines = []
    try:
        header = next(reader, [])
        line = reader.line_num + 1
        for fields in reader:
            if fields and len(fields) != len(header):
                problems.append(Problem(line, f"expected {len(header)} columns, received {len(fields)}"))
            elif fields:
                lines.append((line, dict(zip(header, fields, strict=True))))
            line = reader.line_num + 1
    except csv.Error as error:
        problems.append(Problem(reader.line_num, f"not CSV: {error}; nothing after it was read"))
    return header, lines


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
    for column in (medium, "text"):
        if not row[column].strip():
            yield f"{column} is empty"
    if "split" in row and row["split"] not in SPLITS:
        yield f"expected split to be {' or '.join(SPLITS)}, received {row['split']!r}"


def _divided(rows: Sequence[Row]) -> Iterator[Problem]:
    """If the manifest has both columns, its split must keep its groups together."""
    trained = {row.group: row.line for row in rows if row.split == "train" and row.group}
    for row in rows:
        if row.split == "test" and row.group in trained:
            line = trained[row.group]
            yield Problem(row.line, f"group {row.group!r} is in both splits: line {line} is for training")


class _Checked(NamedTuple):
    """SHA-256 of a file, its problem, and whether its image has a single colour."""

    digest: str
    reason: str = ""
    is_one_colour: bool = False


def _check_files(
    rows: Sequence[Row], medium: str, root: Path, background: Background, progress: bool | None
) -> list[_Checked]:
    """Checks every image or recording."""
    kind = {"audio": AudioSpec()} if medium == AUDIO else {"background": background}
    # Any size will do: only decoding matters.
    preprocessor = Preprocessor(PreprocessingSpec(32, 32, 1, b"unused", ("unused",), 1, **kind))

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
        return list(progress_bar(pool.map(check, rows), "Checking files", progress, total=len(rows)))
