"""Sends every row of a table to a server in parallel requests; a killed run can be resumed."""

import collections
import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Final

from duoserve import errors
from duoserve._printed import predicted_columns
from duoserve.client import Client
from duoserve.errors import DuoserveError, InvalidInput
from duoserve.preprocessing.audio import Clip
from duoserve.results import Prediction
from duoserve.score.tables import check_extension, read_rows, write_rows

_FIRST_ERRORS: Final = 10
_PAUSE: Final = 1.0  # seconds before rows that a server could not take are sent again

Record = dict[str, Any]


@dataclasses.dataclass(slots=True)
class Report:
    """The outcome of a run."""

    rows: int = 0
    resumed: int = 0  # how many of the rows an earlier run had sent
    failed: int = 0  # how many have an error in place of an answer
    errors: dict[int, str] = dataclasses.field(default_factory=dict)  # the first ones, by row, from 1
    seconds: float = 0.0  # of this run
    rows_per_second: float = 0.0  # of this run


@dataclasses.dataclass(kw_only=True)
class Scoring:
    """Writes `out`: the rows of `table` in order, each with an answer or an error.

    Answers are appended to `OUT.part` as they come; `out` appears when it is complete. An interrupted run
    is resumed: rows in `OUT.part` are not sent again. Memory does not grow with the number of rows.
    """

    client: Client  # its max_batch_size should be `rows`
    table: Path  # CSV, JSON Lines or Parquet; paths in it are relative to its folder; other columns are kept
    out: Path  # CSV, JSON Lines or Parquet
    identity: str  # of server, model and options: a part with another identity is refused
    concurrency: int = 8  # requests in parallel
    rows: int = 32  # of a request
    patience: float = 60.0  # seconds for which to retry rows that failed temporarily (a full or unreachable server)
    progress: Callable[[float, str], None] | None = None  # gets the share of the table that was read, and the counts

    def run(self) -> Report:
        """Sends the rows.

        Raises:
            InvalidInput: A table that can't be read or lacks columns, an output that can't be written, a part of
                another run.
            DuoserveError: The server did not come back within `patience`. Run it again to resume.
        """
        check_extension("the table", self.table)
        check_extension("--out", self.out)
        part = self.out.with_name(f"{self.out.name}.part")
        began, report = time.monotonic(), Report()
        with _opened(part, _fingerprint(self.table, self.identity), report) as file:
            for share, record in self._answered(itertools.islice(read_rows(self.table), report.resumed, None)):
                report.rows += 1
                if "error" in record:
                    report.failed += 1
                    if len(report.errors) < _FIRST_ERRORS:
                        report.errors[report.rows] = record["error"]
                file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
                if self.progress is not None and (report.rows % 32 == 0 or share >= 1):
                    self.progress(share, f"{report.rows} rows, {report.failed} failed")
            _finish(part, self.out)
        report.seconds = time.monotonic() - began
        report.rows_per_second = (report.rows - report.resumed) / max(report.seconds, 1e-9)
        return report

    def _answered(self, rows: Iterator[tuple[Any, float]]) -> Iterator[tuple[float, Record]]:
        """The rows in order, each with its answer or its error, and the share of the table that was read."""
        pending: collections.deque[tuple[list[tuple[Any, float]], Future[list[Record]]]] = collections.deque()
        with ThreadPoolExecutor(self.concurrency, "score") as pool:
            try:
                while True:
                    # Some requests in reserve, so that a slow one does not leave the others without work.
                    while len(pending) < 2 * self.concurrency:
                        chunk = list(itertools.islice(rows, self.rows))
                        if not chunk:
                            break
                        pending.append((chunk, pool.submit(self._ask, [row for row, _ in chunk])))
                    if not pending:
                        return
                    chunk, asked = pending.popleft()
                    for (row, share), answer in zip(chunk, asked.result(), strict=True):
                        kept = {key: cell for key, cell in row.items() if key and not _replaced(key, cell)}
                        yield share, kept | answer
            finally:
                pool.shutdown(cancel_futures=True)

    def _ask(self, rows: Sequence[Any]) -> list[Record]:
        """The columns of each row's answer. Rows that failed temporarily are sent again."""
        found: list[Record] = [{}] * len(rows)
        remaining, deadline = list(range(len(rows))), time.monotonic() + self.patience
        while True:
            outcomes: Sequence[Prediction | DuoserveError]
            try:
                outcomes = self.client.predict_batch([_pair(rows[i], self.table.parent) for i in remaining]).outcomes
            except InvalidInput:
                raise
            except DuoserveError as error:
                outcomes = [error] * len(remaining)
            again, last = [], None
            for i, outcome in zip(remaining, outcomes, strict=True):
                if isinstance(outcome, Prediction):
                    found[i] = {**predicted_columns(outcome), "version": outcome.version}
                elif outcome.retryable or isinstance(outcome, errors.SpecChanged):
                    again.append(i)
                    last = outcome
                elif _of_row(outcome, rows[i]):
                    found[i] = {"error": f"{type(outcome).__name__}: {outcome.message}"}
                else:
                    raise outcome
            if last is None:
                return found
            if time.monotonic() >= deadline:
                raise last
            remaining = again
            time.sleep(_PAUSE)


def _replaced(name: str, cell: Any) -> bool:
    """Whether a row's cell is one that its answer may have too; or bytes, which no answer's row has."""
    return name in ("error", "version") or name.startswith("predicted_") or isinstance(cell, bytes)


def _of_row(error: DuoserveError, row: Any) -> bool:
    """Whether an error is about one row. Any other, such as a wrong model, would be every row's."""
    if isinstance(error, errors.UnsupportedModel):
        return any(name in row and not row[name] for name in ("image", "audio", "text"))
    return isinstance(error, (InvalidInput, errors.RequestRejected, errors.BadReply, errors.MessageTooLarge))


def _fingerprint(table: Path, identity: str) -> str:
    try:
        stat = table.stat()
    except OSError as error:
        raise InvalidInput(f"Expected a readable table. Received: {error}") from error
    return json.dumps([str(table.absolute()), stat.st_size, stat.st_mtime_ns, identity])


@contextlib.contextmanager
def _opened(part: Path, fingerprint: str, report: Report) -> Iterator[IO[str]]:
    """The part, for this run alone, opened for appending after its last whole line. Adds its rows to the report."""
    try:
        with part.open("a", encoding="utf-8", buffering=1) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.tell():
                _resume(part, fingerprint, report)
            else:
                file.write(fingerprint + "\n")
            yield file
    except DuoserveError:
        raise
    except OSError as error:
        received = "another run writes it" if isinstance(error, BlockingIOError) else error
        raise InvalidInput(f"Expected --out to be a file that can be written. Received: {received}") from error


def _resume(part: Path, fingerprint: str, report: Report) -> None:
    with part.open("rb+") as file:
        head, end = file.readline(), file.tell()
        ours = head.rstrip(b"\n") == fingerprint.encode()
        try:
            for line in file if ours else ():
                if not line.endswith(b"\n"):
                    break  # the run was killed while it wrote this one
                end += len(line)
                report.rows += 1
                report.failed += "error" in dict(json.loads(line))
        except (ValueError, TypeError):
            ours = False
        if not ours:
            raise InvalidInput(
                f"Expected {part} to be of this table, server, model and options. Received: another run's, or a damaged"
                " one (remove it to start again)"
            )
        file.truncate(end)
    report.resumed = report.rows


def _pair(row: Any, folder: Path) -> tuple[Any, Any]:
    """Image (or Clip) and text of a row; an empty cell is a missing input."""
    if not row.keys() & {"image", "audio", "text"}:
        received = ", ".join(map(str, row)) or "none"
        raise InvalidInput(f"Expected columns image (or audio) and text. Received: {received}")
    source: Any = row.get("audio") or row.get("image") or None
    if isinstance(source, str):
        source = folder / source
    return Clip(source) if row.get("audio") else source, row.get("text") or None


def _finish(part: Path, out: Path) -> None:
    """Writes the table of a complete part under a temporary name, renames it, and removes the part."""

    def records() -> Iterator[Record]:
        with part.open(encoding="utf-8") as file:
            next(file)
            for line in file:
                yield json.loads(line)

    columns: dict[str, type | None] = {}
    for record in records():
        for name, value in record.items():
            columns[name] = _common(columns.get(name), value)
    columns["error"] = columns.pop("error", str)  # last, and always present
    scratch = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        write_rows(scratch, records(), {name: kind or str for name, kind in columns.items()})
        scratch.replace(out)
    finally:
        scratch.unlink(missing_ok=True)
    part.unlink()


def _common(known: type | None, value: Any) -> type | None:
    """The type of a column's values, with one more value."""
    kind = None if value is None else type(value)
    if None in (known, kind) or known is kind:
        return known or kind
    return float if {known, kind} == {int, float} else str
