"""One progress bar for a whole training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from tqdm import tqdm

__all__ = ["ProgressBar"]


class ProgressBar(keras.callbacks.Callback):  # type: ignore[misc]
    """A bar over all steps, with the epoch and the loss. `progress` None draws on a terminal only."""

    def __init__(self, progress: bool | None) -> None:
        super().__init__()
        self._disable = None if progress is None else not progress

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._epochs = self.params["epochs"]
        total = self._epochs * self.params["steps"]
        self._bar = tqdm(total=total, desc="Training", unit="step", disable=self._disable)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._bar.set_description(f"Training, epoch {epoch + 1} of {self._epochs}", refresh=False)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._bar.set_postfix(loss=f"{(logs or {}).get('loss', float('nan')):.3f}")

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._bar.close()
