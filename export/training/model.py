"""The architectures, by name: from uint8 `image` and int32 `tokens` to the answer of `export.training.heads`.

Both read the tokens with an LSTM that skips padding; a text without tokens leaves it in its
initial state, zeros. `use_cudnn=False` everywhere: a cuDNN kernel does not load on a CPU server.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import keras
from keras import layers

from duoserve.contract import PreprocessingSpec
from export.errors import ExportError
from export.training.fusion import FUSE, Alone
from export.training.heads import Head
from export.training.missing import MissingInputs
from export.training.presets import BASELINES, FUSIONS, Preset

IMAGE_FEATURES: Final = "image_features"
TEXT_FEATURES: Final = "text_features"
"""The last layers of the branches, which training may give their own loss."""

Tensor = Any  # keras.KerasTensor: keras has no types to check against
Branches = tuple[Tensor, Tensor, Tensor]
"""The image as (batch, height, width, channels) and as one vector; the text as one vector."""


def build_model(preset: Preset, spec: PreprocessingSpec, *, fusion: str, vocabulary: int, head: Head) -> keras.Model:
    """A model without training.

    Args:
        preset: Its sizes; `preset.name` selects the architecture.
        spec: The shapes of the inputs, and which of them may be missing.
        fusion: One of FUSIONS, or of BASELINES.
        vocabulary: One more than the largest token id.
        head: Makes the answer from the joined features.

    Raises:
        ExportError: No such architecture or fusion, or an image too small for the convolutions.
    """
    if preset.name not in BUILDERS:
        raise ExportError(f"Expected preset to be one of {', '.join(BUILDERS)}. Received: {preset.name!r}")
    if fusion not in FUSE:
        raise ExportError(f"Expected fusion to be one of {', '.join((*FUSIONS, *BASELINES))}. Received: {fusion!r}")
    image = keras.Input((spec.image_height, spec.image_width, 3), dtype="uint8", name="image")
    tokens = keras.Input((spec.token_length,), dtype="int32", name="tokens")
    try:
        branches = BUILDERS[preset.name](preset, image, tokens, vocabulary)
    except ValueError as error:
        raise ExportError(
            f"Expected an image large enough for the convolutions of the {preset.name} model."
            f" Received: {spec.image_height}x{spec.image_width} ({error})"
        ) from error
    if spec.optional:
        missing = MissingInputs(spec.optional, preset.modality_dropout, name="missing_inputs")
        branches = missing([image, tokens, *branches])
    fused = FUSE[fusion](*branches, preset.width)
    if fusion in BASELINES:
        fused = Alone(name="alone")([fused, image, tokens])
    if preset.dropout:
        fused = layers.Dropout(preset.dropout, name="fused_dropout")(fused)
    return keras.Model({"image": image, "tokens": tokens}, head.build(fused, head.name), name=preset.name)


def reference(preset: Preset, image: Tensor, tokens: Tensor, vocabulary: int) -> Branches:
    """The published architecture: two convolutions and a pooling; embedding and LSTM.

    As published it can't run: it concatenates a 4-D tensor with a 2-D one. Flattened, the image would
    be 774,400 numbers against the text's 128, and a Dense layer on them 30 times the rest of the
    model; so the regions are averaged into one vector of 64. The price: only
    attention uses positions in the image.
    """
    regions = layers.Rescaling(1 / 255, name="scaled")(image)
    for number, filters in enumerate(preset.filters, 1):
        regions = layers.Conv2D(filters, 3, activation="relu", name=f"conv_{number}")(regions)
    regions = layers.MaxPooling2D(2, name="pool")(regions)
    seen = layers.GlobalAveragePooling2D(name=IMAGE_FEATURES)(_checked(regions))
    # As large as published, even where the texts support fewer token ids.
    vocabulary = max(vocabulary, preset.vocabulary)
    embedded = layers.Embedding(vocabulary, preset.embedding, mask_zero=True, name="embedding")(tokens)
    read = layers.LSTM(preset.text_units, use_cudnn=False, name=TEXT_FEATURES)(embedded)
    return regions, seen, read


def compact(preset: Preset, image: Tensor, tokens: Tensor, vocabulary: int) -> Branches:
    """A deeper CNN and a bidirectional LSTM, regularised; small for a few thousand rows, large for many."""
    regions = layers.Rescaling(1 / 127.5, offset=-1, name="scaled")(image)
    for number, filters in enumerate(preset.filters, 1):
        if number > 1:
            regions = layers.MaxPooling2D(2, name=f"pool_{number - 1}")(regions)
        # The first one strides: at full size it would cost as much as all others together.
        strides = 2 if number == 1 else 1
        conv = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False, name=f"conv_{number}")
        # 0.9: an epoch is some fifty steps, and the default average would lag behind by two.
        regions = layers.BatchNormalization(momentum=0.9, name=f"norm_{number}")(conv(regions))
        regions = layers.ReLU(name=f"relu_{number}")(regions)
    seen = layers.GlobalAveragePooling2D(name="averaged")(_checked(regions))
    seen = layers.Dropout(preset.dropout, name="image_dropout")(seen)
    seen = layers.Dense(preset.width, activation="relu", name=IMAGE_FEATURES)(seen)

    embedded = layers.Embedding(vocabulary, preset.embedding, mask_zero=True, name="embedding")(tokens)
    embedded = layers.Dropout(preset.dropout * 0.75, name="embedding_dropout")(embedded)
    lstm = layers.LSTM(preset.text_units, use_cudnn=False, name="lstm")
    read = layers.Bidirectional(lstm, name="bidirectional")(embedded)
    read = layers.Dropout(preset.dropout, name="text_dropout")(read)
    read = layers.Dense(preset.width, activation="relu", name=TEXT_FEATURES)(read)
    return regions, seen, read


def _checked(regions: Tensor) -> Tensor:
    """Keras silently pools a single pixel to none, and an average over nothing is NaN."""
    if 0 in regions.shape[1:3]:
        raise ValueError("no pixel is left after the last pooling")
    return regions


BUILDERS: Final[Mapping[str, Callable[[Preset, Tensor, Tensor, int], Branches]]] = MappingProxyType(
    {"reference": reference, "compact": compact, "large": compact}
)
"""By name: `(preset, image, tokens, vocabulary) -> branches`."""
