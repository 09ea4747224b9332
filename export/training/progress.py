"""One progress bar for a whole training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from tqdm import tqdm

__all__ = ["ProgressBar"]


class ProgressBar(keras.callbacks.Callback):  # type: ignore[misc]
    """A bar over all steps, with the epoch and the loss; a context manager around one or more calls of `fit`.

    Args:
        progress: Whether to draw it; None draws on a terminal only.
        epochs: Epochs of the whole training.
        steps: Steps of the whole training.
        done: Steps that are completed already.
    """

    def __init__(self, progress: bool | None, *, epochs: int, steps: int, done: int = 0) -> None:
        super().__init__()
        disable = None if progress is None else not progress
        self._epochs = epochs
        self._bar = tqdm(total=steps, initial=done, desc="Training", unit="step", disable=disable)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._bar.set_description(f"Training, epoch {epoch + 1} of {self._epochs}", refresh=False)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._bar.set_postfix(loss=f"{(logs or {}).get('loss', float('nan')):.3f}")
