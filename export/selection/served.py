"""Measures a SavedModel in a separate process, with the loader and the signature that a server uses.

Each model has its own process, so that memory is that of the model only. All processes run at the same
time, so that the models can take turns and other load on the machine affects them equally.
"""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from duoserve.contract import SERVING_DEFAULT, ContractError, PreprocessingSpec
from export.dataset.data import Arrays
from export.dataset.rows import Row
from export.errors import ExportError
from export.measures import Array

BATCH: Final = 32
"""Rows of a call with many rows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a served model, and its load time and memory.

    Attributes:
        spec: The model's spec.
        values: float32 array of shape (rows, labels): the answers.
        without: The same without an optional input, by its name.
        targets: float32 array of shape (rows, labels): the right answers.
        load_seconds: Seconds to load it.
        memory: Bytes of resident memory of the loaded model and its first batches.
    """

    spec: PreprocessingSpec
    values: Array
    without: dict[str, Array]
    targets: Array
    load_seconds: float
    memory: int


class ServedModel:
    """A SavedModel in a separate process. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # spawn: TensorFlow's threads don't survive a fork.
        self._process = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def __enter__(self) -> ServedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.shutdown(cancel_futures=True)

    def answers(self, rows: Sequence[Row]) -> Answers:
        """Loads the model and predicts for every row. Call it once.

        Raises:
            ExportError: It can't be loaded or run, has other labels than the rows, or its process died.
        """
        return self._run(_answers, self._folder, tuple(rows))  # type: ignore[no-any-return]

    def latencies(self, batch_size: int, seconds: float) -> list[float]:
        """Seconds of each of the calls that fit in `seconds`, one after the other."""
        return self._run(_latencies, batch_size, seconds)  # type: ignore[no-any-return]

    def throughput(self, seconds: float) -> float:
        """Rows a second in batches of 32, as many callers as cores."""
        return self._run(_throughput, seconds)  # type: ignore[no-any-return]

    def _run(self, function: Any, *arguments: Any) -> Any:
        try:
            return self._process.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise ExportError(
                f"Expected the process that measures {self._folder} to answer. Received: its end (out of memory?)"
            ) from error


# The following code runs in the process.

_loaded: dict[str, Any] = {}


def _answers(folder: Path, rows: tuple[Row, ...]) -> Answers:
    # Only this process loads TensorFlow.
    from duoserve.preprocessing.preprocessor import Preprocessor
    from export.dataset.data import encode
    from export.dataset.rows import DataError
    from export.publish.session import SessionModel, start_runtime
    from export.training.missing import without

    start_runtime()
    before, begin = _resident(), time.perf_counter()
    model = SessionModel(folder)
    load_seconds = time.perf_counter() - begin
    try:
        spec = model.describe()
        outputs = model.meta_graph.signature_def[SERVING_DEFAULT].outputs
        if spec.answer.output not in outputs:
            raise ContractError(
                f"{SERVING_DEFAULT}: expected the output {spec.answer.output!r}. Received: {sorted(outputs)}"
            )
        arrays = encode(rows, Preprocessor(spec), progress=False)
    except (ContractError, DataError) as error:
        raise ExportError(f"Expected {folder} to fit the data. Received: {error}") from error
    _loaded.update(model=model, image=arrays.images, tokens=arrays.tokens, output=spec.answer.output)
    values = _ask(arrays)
    return Answers(
        spec=spec,
        values=values,
        without={name: _ask(without(arrays, name, spec.pad_id)) for name in spec.optional},
        targets=arrays.targets,
        load_seconds=load_seconds,
        memory=_resident() - before,
    )


def _latencies(batch_size: int, seconds: float) -> list[float]:
    positions = np.arange(batch_size) % len(_loaded["tokens"])  # repeats the first rows if there are fewer
    inputs = {name: np.ascontiguousarray(_loaded[name][positions]) for name in ("image", "tokens")}
    call = functools.partial(_loaded["model"].run, SERVING_DEFAULT, inputs)
    call()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return found


def _throughput(seconds: float) -> float:
    callers = os.cpu_count() or 1
    begin = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        calls = sum(pool.map(lambda _: len(_latencies(BATCH, seconds)) + 1, range(callers)))
    return calls * BATCH / (time.perf_counter() - begin)


def _ask(arrays: Arrays) -> Array:
    parts = []
    for start in range(0, len(arrays.tokens), BATCH):
        batch = slice(start, start + BATCH)
        inputs = {"image": arrays.images[batch], "tokens": arrays.tokens[batch]}
        parts.append(_loaded["model"].run(SERVING_DEFAULT, inputs)[_loaded["output"]])
    return np.concatenate(parts)


def _resident() -> int:
    return psutil.Process().memory_info().rss
