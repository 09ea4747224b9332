"""The state of a training in one file, so that it resumes exactly after a kill.

It holds everything that the next step depends on: weights, moments of the optimizer, accumulated
gradients, loss scale, state of the random generators, running averages of the metrics.
Batches need no state: they depend on the seed and the number of the step.
"""

import json
import os
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from export.errors import ExportError

_FORMAT: Final = 1


class Checkpoint(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that writes the state of its model, and restores it.

    Args:
        path: The file, which keeps its old state until the new one is complete; None: only counts steps.
        training: Identifies this training, as JSON.
        steps: Steps of an epoch.
        every: Seconds between two writes.

    Attributes:
        step: Completed steps, over all epochs.
        history: The logs of every completed epoch, by name.

    Raises:
        ExportError: The file is damaged, or of another training.
    """

    def __init__(self, path: Path | None, training: Mapping[str, Any], *, steps: int, every: float) -> None:
        super().__init__()
        self._training = _flat({"format": _FORMAT, **json.loads(json.dumps(training))})
        self._path, self._steps, self._every = path, steps, every
        self._arrays: list[np.ndarray[Any, Any]] | None = None
        self.step = 0
        self.history: dict[str, list[float]] = {}
        self._written = time.monotonic()
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                record = json.loads(str(file["record"]))
                self._arrays = [file[f"arrays/{number}"] for number in range(record["arrays"])]
                self.step, self.history, found = record["step"], record["history"], record["training"]
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ExportError(f"Expected {path} to be a whole checkpoint. Received: {error!r}") from error
        pairs = {key: (found.get(key), self._training.get(key)) for key in sorted({*found, *self._training})}
        if different := [f"{key} {then!r}, now {now!r}" for key, (then, now) in pairs.items() if then != now]:
            raise ExportError(
                f"Expected {path} to be of this training (another FILE starts a new one)."
                f" Received: {'; '.join(different)}"
            )

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Restores the state. Not earlier, because Keras has just set the averages to 0."""
        if self._arrays is None:
            return
        self._assign(self._variables(), self._arrays)
        self._arrays = None
        if self.step % self._steps == 0:  # written after an epoch, so the next one starts with fresh averages
            self.model.reset_metrics()

    def finish(self, model: keras.Model) -> None:
        """Restores the weights of a completed training, where no optimizer is built any more."""
        assert self._arrays is not None
        self._assign(model.variables, self._arrays[: len(model.variables)])

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.step += 1
        if self.step % self._steps and time.monotonic() - self._written >= self._every:
            self.write()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        for key, value in (logs or {}).items():
            self.history.setdefault(key, []).append(float(value))
        if time.monotonic() - self._written >= self._every:
            self.write()

    def write(self) -> None:
        """Writes the state beside the file, syncs it and renames it."""
        if self._path is None:
            return
        variables = self._variables()
        record = {"step": self.step, "history": self.history, "training": self._training, "arrays": len(variables)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f".{self._path.name}.new")
        with new.open("wb") as file:
            # Not copied here: NumPy copies one at a time, so they are never all in memory twice.
            arrays = {f"arrays/{number}": variable for number, variable in enumerate(variables)}
            np.savez(file, record=np.array(json.dumps(record)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        self._written = time.monotonic()

    def _assign(self, variables: list[Any], arrays: list[np.ndarray[Any, Any]]) -> None:
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
            raise ExportError(f"Expected {self._path} to fit the model. Received: variables of other shapes")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.model.optimizer.variables, *self.model.metrics_variables]


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= _flat(value) if isinstance(value, dict) else {key: value}
    return flat
