"""Trains the coloured squares in a separate process: `python -m tests.training.running FOLDER OUT OPTIONS-AS-JSON`.

Writes the weights and the history to OUT. The option `kill_in_write` kills the process, for
good, in the middle of that write of its checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np

from export.dataset.data import load_dataset
from export.training import checkpoint as _checkpoint
from export.training.presets import Running
from export.training.train import train
from tests.training.conftest import SMALL

__all__ = ["FEW_EPOCHS", "WITHOUT_CHANCE"]

FEW_EPOCHS = dataclasses.replace(SMALL, epochs=2)
"""12 steps of 8 rows."""

WITHOUT_CHANCE = dataclasses.replace(FEW_EPOCHS, dropout=0.0)
"""Replicas draw on their own what they drop."""


def kill_in_write(number: int) -> None:
    whole = np.savez
    writes = iter(range(1, number + 1))

    def savez(file: IO[bytes], **arrays: Any) -> None:
        if next(writes) == number:
            file.write(b"PK\3\4 half of a state")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        whole(file, **arrays)

    _checkpoint.np.savez = savez  # type: ignore[assignment]


def main(folder: str, out: str, given: str) -> None:
    options = json.loads(given)
    if number := options.pop("kill_in_write", None):
        kill_in_write(number)
    preset, fusion = FEW_EPOCHS, "concat"
    if options.pop("without_chance", False):
        preset, fusion = WITHOUT_CHANCE, "image_only"
    if "checkpoint" in options:
        options |= {"checkpoint": Path(options["checkpoint"]), "checkpoint_every": 0.0}
    trained = train(load_dataset(folder), preset=preset, fusion=fusion, seed=3, run=Running(**options))
    with Path(out).open("wb") as file:
        np.savez(file, *trained.model.get_weights(), history=np.array(json.dumps(trained.facts["history"])))


if __name__ == "__main__":
    main(*sys.argv[1:])
