"""How a training runs, which is not what is trained: precision, devices, memory, checkpoints. Without TensorFlow."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Final

from export.errors import ExportError
from export.options import duration, positive

__all__ = ["PRECISIONS", "Running", "add_running", "running"]

PRECISIONS: Final = ("float32", "bfloat16", "float16")
"""What the layers compute in. Weights, the output and the losses are float32 in each."""


@dataclasses.dataclass(frozen=True, slots=True)
class Running:
    """How a training runs.

    Attributes:
        precision: One of PRECISIONS. float16 scales its loss, as Keras does it.
        accumulate: Batches whose gradients are added up before the weights change.
        devices: Replicas that share each batch: GPUs where there are as many, else parts of the CPU.
        stream: Decode the pictures anew in every epoch, and never hold all of them.
        checkpoint: A file that keeps the state of the training; one that is there is continued.
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
        "--precision", choices=PRECISIONS, default="float32", help="what layers compute in (default: %(default)s)"
    )
    group.add_argument(
        "--accumulate", type=positive, default=1, metavar="N", help="batches that make one step of the optimizer"
    )
    group.add_argument("--devices", type=positive, default=1, metavar="N", help="replicas that share each batch")
    group.add_argument(
        "--stream", action="store_true", help="decode pictures anew in every epoch, for data larger than memory"
    )
    group.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="keep the state there; after a kill, the same command resumes"
    )
    group.add_argument(
        "--checkpoint-every", type=duration, default=300.0, metavar="TIME", help="how often, such as 30s (default: 5m)"
    )


def running(options: argparse.Namespace) -> Running:
    """What the options say."""
    return Running(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Running)})
