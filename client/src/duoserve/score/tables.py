"""Tables of rows, read and written one after another: CSV, JSON Lines, Parquet, by extension."""

import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from duoserve.errors import InvalidInput

Row = Mapping[str, Any]
Rows = Iterator[tuple[Row, float]]  # a row by column, and the share of the table that has been read with it

_PARQUET_ROWS: Final = 1024  # in memory at a time


def check_extension(name: str, path: Path) -> None:
    """Refuses a table that is neither CSV, JSON Lines nor Parquet, or Parquet without pyarrow."""
    if path.suffix not in EXTENSIONS:
        raise InvalidInput(f"Expected {name} to end in {', '.join(EXTENSIONS)}. Received: {path}")
    if path.suffix == ".parquet":
        _pyarrow()


def read_rows(path: Path) -> Rows:
    """The rows of a table, one after another. Raises InvalidInput for a file that is not such a table."""
    try:
        yield from _READERS[path.suffix](path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"Expected a readable table. Received: {path}: {error}") from error


def write_rows(path: Path, rows: Iterable[Row], columns: Mapping[str, type]) -> None:
    """Writes a table with these columns, with values of a type: str, bool, int, float, list (of str) or dict."""
    extension = next(suffix for suffix in path.suffixes[::-1] if suffix in EXTENSIONS)
    _WRITERS[extension](path, rows, columns)


class _Counted:
    """Lines of a file, with the share that has been read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size, self._read = file, max(size, 1), 0

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self._read += len(line)
            yield line.decode("utf-8-sig" if self._read == len(line) else "utf-8")

    @property
    def share(self) -> float:
        return self._read / self._size


def _read_csv(path: Path) -> Rows:
    with path.open("rb") as file:
        lines = _Counted(file, path.stat().st_size)
        for row in csv.DictReader(lines):
            yield row, lines.share


def _read_jsonl(path: Path) -> Rows:
    with path.open("rb") as file:
        lines = _Counted(file, path.stat().st_size)
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InvalidInput(f"Expected a JSON object in each line. Received: line {number}: {error}") from error
            if not isinstance(row, dict):
                raise InvalidInput(f"Expected a JSON object in each line. Received: line {number}: {line:.40}")
            yield row, lines.share


def _read_parquet(path: Path) -> Rows:
    pyarrow = _pyarrow()
    try:
        file = pyarrow.parquet.ParquetFile(path)
        read, total = 0, max(file.metadata.num_rows, 1)
        for batch in file.iter_batches(_PARQUET_ROWS):
            for row in batch.to_pylist():
                read += 1
                yield row, read / total
    except pyarrow.ArrowException as error:
        raise InvalidInput(f"Expected a Parquet file. Received: {path}: {error}") from error


def _write_csv(path: Path, rows: Iterable[Row], columns: Mapping[str, type]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), extrasaction="ignore")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return "|".join(map(str, value))  # as manifest.csv separates labels
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def _write_jsonl(path: Path, rows: Iterable[Row], columns: Mapping[str, type]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({name: row[name] for name in columns if name in row}, ensure_ascii=False) + "\n")


def _write_parquet(path: Path, rows: Iterable[Row], columns: Mapping[str, type]) -> None:
    pyarrow = _pyarrow()
    strings = pyarrow.string()
    kinds = {str: strings, bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64()}
    kinds[list] = pyarrow.list_(strings)
    schema = pyarrow.schema([(name, kinds.get(kind, strings)) for name, kind in columns.items()])
    remaining = iter(rows)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while part := list(itertools.islice(remaining, _PARQUET_ROWS)):
            writer.write_table(pyarrow.Table.from_pylist([_typed(row, columns) for row in part], schema))


def _typed(row: Row, columns: Mapping[str, type]) -> dict[str, Any]:
    found = {name: row.get(name) for name in columns}
    for name, value in found.items():
        if columns[name] in (str, dict) and value is not None and not isinstance(value, str):
            found[name] = json.dumps(value, ensure_ascii=False)
    return found


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InvalidInput('Expected pyarrow for Parquet: pip install "duoserve[parquet]". Received: none') from error
    return pyarrow


_READERS: Final = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
_WRITERS: Final = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
EXTENSIONS: Final = tuple(_READERS)
