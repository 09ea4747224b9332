"""A typical Keras model, trained without Duoserve: the example of export/OWN_MODEL.md.

    python -m demo.own_model build/demo/data build/demo/own

A backbone of `keras.applications`, an LSTM, logits; text first, ids as int64, pixels as floats. The
second folder gets `mine.keras`, `mine.weights.h5`, `spm.model`, `labels.txt` and `mine.toml`.
"""

import argparse
import csv
from pathlib import Path

import keras
import numpy as np
import sentencepiece
from keras import layers
from PIL import Image

SIZE, LENGTH, VOCABULARY = 64, 24, 800

SETTINGS = """\
model = "mine.keras"
tokenizer = "spm.model"
labels = "labels.txt"
samples = "{samples}"
"""


def build(classes: int, vocabulary: int = VOCABULARY) -> keras.Model:
    """Text and photo in, one logit for each class out. The backbone scales its pixels itself."""
    words = keras.Input((LENGTH,), dtype="int64", name="words")
    photo = keras.Input((SIZE, SIZE, 3), name="photo")
    backbone = keras.applications.MobileNetV3Small(
        input_shape=(SIZE, SIZE, 3), include_top=False, weights=None, pooling="avg", dropout_rate=0
    )
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # its default lags behind by a thousand steps, more than there are here
    read = layers.LSTM(64, use_cudnn=False)(layers.Embedding(vocabulary, 48, mask_zero=True)(words))
    both = layers.Concatenate()([layers.Dense(64, activation="relu")(backbone(photo)), read])
    return keras.Model([words, photo], layers.Dense(classes, name="scores")(layers.Dropout(0.3)(both)))


def main() -> None:
    """Trains it and writes the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder of manifest.csv with image,text,label,split")
    parser.add_argument("out", type=Path, help="folder for the model")
    parser.add_argument("--epochs", type=int, default=12, help="default: %(default)s")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    with (options.data / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    labels = sorted({row["label"] for row in rows})
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(row["text"] for row in rows),
        model_prefix=str(options.out / "spm"),
        vocab_size=VOCABULARY,
        hard_vocab_limit=False,
        byte_fallback=True,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(options.out / "spm.model"))
    words = np.zeros((len(rows), LENGTH), np.int64)
    photos = np.zeros((len(rows), SIZE, SIZE, 3), np.float32)
    for number, row in enumerate(rows):
        ids = tokenizer.encode(row["text"])[:LENGTH]
        words[number, : len(ids)] = ids
        with Image.open(options.data / row["image"]) as image:
            photos[number] = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)

    model = build(len(labels), tokenizer.get_piece_size())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    targets = np.array([labels.index(row["label"]) for row in rows])
    model.fit([words, photos], targets, epochs=options.epochs, batch_size=32, verbose=2)

    model.save(options.out / "mine.keras")
    model.save_weights(options.out / "mine.weights.h5")
    (options.out / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    (options.out / "mine.toml").write_text(SETTINGS.format(samples=options.data.absolute()), encoding="utf-8")
    print(f"In {options.out}: {', '.join(sorted(path.name for path in options.out.iterdir()))}")


if __name__ == "__main__":
    main()
