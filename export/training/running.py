"""How a training runs: precision, devices, memory, checkpoints. Without TensorFlow."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Final

from export.errors import ExportError
from export.options import duration, positive

__all__ = ["PRECISIONS", "Running", "add_running", "running"]

PRECISIONS: Final = ("float32", "bfloat16", "float16")
"""The precision of the layers' computation. Weights, output and losses are float32 in each."""


@dataclasses.dataclass(frozen=True, slots=True)
class Running:
    """How a training runs.

    Attributes:
        precision: One of PRECISIONS. float16 scales its loss, as in Keras.
        accumulate: Batches whose gradients are added up before the weights change.
        devices: Replicas that share each batch: GPUs if there are enough, otherwise parts of the CPU.
        stream: Decode the images again in every epoch, instead of keeping them all in memory.
        checkpoint: A file with the state of the training; an existing one is resumed.
        checkpoint_every: Seconds between two writes of it.

    Raises:
        ExportError: A value out of range.
    """

    precision: str = "float32"
    accumulate: int = 1
    devices: int = 1
    stream: bool = False
    checkpoint: Path | None = None
    checkpoint_every: float = 300.0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ExportError(f"Expected precision to be one of {', '.join(PRECISIONS)}. Received: {self.precision!r}")
        for name in ("accumulate", "devices"):
            if getattr(self, name) < 1:
                raise ExportError(f"Expected {name} to be at least 1. Received: {getattr(self, name)}")


def add_running(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m export train` about how it runs."""
    group = parser.add_argument_group("for large models and data (export/LARGE.md)")
    group.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="precision of the layers (default: %(default)s)"
    )
    group.add_argument(
        "--accumulate", type=positive, default=1, metavar="N", help="batches for each step of the optimizer"
    )
    group.add_argument("--devices", type=positive, default=1, metavar="N", help="replicas that share each batch")
    group.add_argument(
        "--stream", action="store_true", help="decode images again in every epoch, for data larger than memory"
    )
    group.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="keep the state in this file; the same command resumes from it"
    )
    group.add_argument(
        "--checkpoint-every", type=duration, default=300.0, metavar="TIME", help="how often, such as 30s (default: 5m)"
    )


def running(options: argparse.Namespace) -> Running:
    """The settings from the options."""
    return Running(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Running)})
