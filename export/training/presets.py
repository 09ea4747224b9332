"""The models that can be trained, and how a training runs. Pure data: `--help` reads it without TensorFlow."""

import dataclasses
from pathlib import Path
from types import MappingProxyType
from typing import Final

from export.errors import ExportError

FUSIONS: Final = ("concat", "weighted_sum", "attention")
"""How the two inputs are joined. `export.training.fusion` has one function for each."""

BASELINES: Final = ("image_only", "text_only")
"""Not fusions: one branch alone, to measure what a fusion adds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Preset:
    """Everything about a model and its training that is not the data, the fusion or the seed.

    Change a part with `dataclasses.replace(PRESETS["compact"], image_size=96)`.

    Attributes:
        name: The architecture: a key of `export.training.model.BUILDERS`.
        image_size: Height and width of the `image` input, in pixels.
        most_tokens: Upper limit of the `tokens` input. Training takes the least multiple of 8
            that holds 99 % of the training texts.
        vocabulary: Upper limit of the number of token ids.
        embedding: Width of the token embedding.
        text_units: Units of the LSTM, in each direction where there are two.
        filters: Filters of the convolutions, first to last.
        width: Common width of the branches.
        dropout: Share of the features that training drops.
        epochs: Passes over the training rows.
        batch_size: Rows of a step.
        learning_rate: Learning rate of Adam, at the start if it decays.
        decay: Whether the learning rate falls to zero along a cosine.
        weight_decay: Decoupled weight decay; 0 is plain Adam.
        label_smoothing: Share of the target that is spread over all classes; not for tags and scores.
        branch_loss: Weight of the loss of each branch alone, beside that of the fused output.
        shift: By how much images are shifted in training, as a share of their size.
        modality_dropout: Share of the rows that lose an input in training, where inputs are optional.
        segmentations: Number of tokenisations of a text that training draws from; 1: only the usual one.
    """

    name: str
    image_size: int
    most_tokens: int
    vocabulary: int
    embedding: int
    text_units: int
    filters: tuple[int, ...]
    width: int
    epochs: int
    batch_size: int
    learning_rate: float
    dropout: float = 0.0
    decay: bool = False
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    branch_loss: float = 0.0
    shift: float = 0.0
    segmentations: int = 1
    modality_dropout: float = 0.3


_COMPACT: Final = Preset(
    name="compact",
    image_size=64,
    most_tokens=64,
    vocabulary=1000,
    embedding=64,
    text_units=64,
    filters=(24, 48, 96, 128),
    width=64,
    epochs=24,
    batch_size=32,
    learning_rate=2e-3,
    dropout=0.4,
    decay=True,
    weight_decay=1e-3,
    label_smoothing=0.1,
    branch_loss=0.5,
    shift=0.08,
    segmentations=8,
)

PRESETS: Final = MappingProxyType(
    {
        # For a laptop's CPU, and the default.
        "compact": _COMPACT,
        # 100 million parameters or more for any vocabulary: for measurements, and for large data.
        "large": dataclasses.replace(
            _COMPACT,
            name="large",
            image_size=128,
            vocabulary=10_000,
            embedding=1024,
            text_units=2048,
            filters=(128, 256, 512, 1024, 1536, 2048),
            width=1024,
            epochs=10,
            learning_rate=2e-4,
        ),
        # As published, without additions.
        "reference": Preset(
            name="reference",
            image_size=224,
            most_tokens=128,
            vocabulary=10_000,
            embedding=128,
            text_units=128,
            filters=(32, 64),
            width=128,
            epochs=10,
            batch_size=32,
            learning_rate=1e-3,
        ),
    }
)
"""By name."""

PRECISIONS: Final = ("float32", "bfloat16", "float16")
"""The precision of the layers' computation. Weights, output and losses are float32 in each."""


@dataclasses.dataclass(frozen=True, slots=True)
class Running:
    """How a training runs.

    Attributes:
        precision: One of PRECISIONS. float16 scales its loss, as in Keras.
        accumulate: Batches whose gradients are added up before the weights change.
        devices: How many share each batch: GPUs if there are enough, otherwise parts of the CPU.
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
