"""Versions of one tiny model: good, worse, slow, and prepared differently."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from duoserve.artifact.checksums import write_checksums
from duoserve.contract import PreprocessingSpec
from export.publish.savedmodel import export_version
from export.publish.store import ModelStore
from export.training.tokenizer import train_tokenizer

MODEL = "pets"
WORDS = ("red cat", "blue dog", "green tree", "grinning face", "hot air balloon", "over the sea", "the red tree")
TEXTS = [f"{a} {b}" for a in WORDS for b in WORDS]

OLD, GOOD, WORSE, SLOW, FEWER, REFUSED, CRASHING = 1, 2, 3, 4, 5, 6, 7
"""Only SLOW has the signature `serving_bytes`. WORSE is also for servers that compute in bfloat16. FEWER has a class
less. REFUSED and CRASHING are copies of OLD: the fault is the server's."""

HAS_BFLOAT16 = "avx512f" in Path("/proc/cpuinfo").read_text()


def picture(seed: int) -> bytes:
    """A PNG of one colour and some noise, which is told apart by any weights."""
    random = np.random.default_rng(seed)
    colour = random.integers(0, 256, 3)
    noise = random.integers(-20, 20, (40, 50, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


SAMPLES = [(picture(seed), TEXTS[seed]) for seed in range(8)]


def spec(size: int = 24, vocabulary: int = 300, labels: tuple[str, ...] = ("cat", "dog", "tree")) -> PreprocessingSpec:
    return PreprocessingSpec(
        image_height=size,
        image_width=size + 8,
        token_length=6,
        tokenizer=train_tokenizer(TEXTS, vocabulary=vocabulary),
        labels=labels,
        version=1,
        serving_bytes=False,  # preparing its graph is most of what a load costs
    )


def build(spec: PreprocessingSpec, *, turned: int = 0, slow: bool = False) -> keras.Model:
    """Mostly the mean colour decides, and the text a little: another size or tokenizer changes no answer.

    Args:
        spec: Sizes and classes.
        turned: Shifts the classes by this number, for wrong answers.
        slow: Adds work that changes nothing.
    """
    keras.utils.set_random_seed(7)
    image = keras.Input((spec.image_height, spec.image_width, 3), dtype="uint8", name="image")
    tokens = keras.Input((spec.token_length,), dtype="int32", name="tokens")
    scaled = keras.layers.Rescaling(1 / 255)(image)
    seen = keras.layers.GlobalAveragePooling2D()(scaled)
    if slow:
        wide = keras.layers.Resizing(256, 256)(scaled)
        for _ in range(3):
            wide = keras.layers.Conv2D(48, 3, padding="same")(wide)
        # Times nought: the graph can't leave it out, and the answer stays.
        seen = seen + 0.0 * keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(wide))
    read = keras.layers.LSTM(4, use_cudnn=False)(keras.layers.Embedding(1000, 4, mask_zero=True)(tokens))
    head = keras.layers.Dense(len(spec.labels), activation="softmax")
    model = keras.Model({"image": image, "tokens": tokens}, head(keras.layers.Concatenate()([seen, read])))
    kernel = np.zeros((7, len(spec.labels)), np.float32)
    kernel[:3] = 8 * np.roll(np.eye(3, len(spec.labels)), turned, axis=1)
    kernel[3:] = 0.01
    head.set_weights([kernel, np.zeros(len(spec.labels), np.float32)])
    return model


def publish(store: Path) -> Path:
    """All versions, into a store; returned."""
    usual, other, fewer = spec(), spec(size=32, vocabulary=320), spec(labels=("cat", "dog"))
    for version, described, options in (
        (OLD, usual, {}),
        (GOOD, other, {}),
        (WORSE, usual, {"turned": 1, "bfloat16": HAS_BFLOAT16}),
        (SLOW, dataclasses.replace(usual, serving_bytes=True), {"slow": True}),
        (FEWER, fewer, {}),
    ):
        export = {"version": version, "batch_sizes": (1,), "bfloat16": options.pop("bfloat16", False)}
        model = build(described, **options)
        described = dataclasses.replace(described, version=version)
        export_version(model, described, SAMPLES, ModelStore(store, MODEL), **export)
    for version in (REFUSED, CRASHING):
        copy_as(store / MODEL / str(OLD), version)
    return store


def copy_as(folder: Path, version: int) -> None:
    """Another version with the same model; its card alone knows better."""
    copy = Path(shutil.copytree(folder, folder.with_name(str(version))))
    card = copy / "assets.extra/card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "version": version}))
    write_checksums(copy)
