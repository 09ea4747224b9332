"""The quality of `embed` and `explain` for a trained run, over the wire: search, duplicates, faithfulness, time.

python -m benchmarks.embed_explain build/demo/runs/attention build/demo/data

- search: whether the training row nearest to a held-out row is of its class, and most of the nearest five.
- duplicates: whether a copy of an image (smaller, recompressed, a little brighter), with its text in capitals,
  finds its original among all held-out rows.
- faithfulness: the probability of the class after the most relevant patches are painted over (and the most
  relevant word is removed), compared with the same number of random ones.
- time: `explain` against `predict`, one caller.
"""

import io
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from benchmarks._report import parser, write
from benchmarks._rounds import interleave, ratio, times
from duoserve import Client, Explanation
from export.dataset.data import load_dataset
from export.dataset.rows import Row
from export.publish.explain import explained
from export.publish.savedmodel import export_version
from export.publish.store import ModelStore
from export.training.run import TrainedModel
from serving.local.testing import LocalServer

PATCHES = 16  # of 64


def main() -> None:
    asked = parser(__doc__, rounds=3)
    asked.add_argument("run", type=Path)
    asked.add_argument("data", type=Path)
    asked.add_argument("--explained", type=int, default=100, metavar="N", help="held-out rows (default: %(default)s)")
    asked.add_argument("--out", type=Path, help="write the JSON here")
    options = asked.parse_args()
    dataset, trained = load_dataset(options.data), TrainedModel.load(options.run)
    rows, held_out = dataset.select("train"), dataset.select("test")
    with tempfile.TemporaryDirectory() as folder:
        published = export_version(
            trained.model, explained(trained.spec), trained.samples, ModelStore(Path(folder), "measured")
        )
        flags = ["--model_name=measured", f"--model_base_path={published.path.parent}"]
        with LocalServer(*flags) as server, Client(server.address, model="measured", timeout=120) as client:
            found = {
                "run": trained.facts["fusion"],
                "pairs": {"train": len(rows), "test": len(held_out)},
                **_search(client, rows, held_out),
                **_faithfulness(client, held_out[: options.explained]),
                **_time(client, held_out[0], options.rounds),
            }
    print(json.dumps(found, indent=1))
    if options.out:
        write(found, options.out)


def _search(client: Client, rows: tuple[Row, ...], held_out: tuple[Row, ...]) -> dict[str, Any]:
    shelf, asked = (client.embed_batch([(row.image, row.text) for row in each]).vectors for each in (rows, held_out))
    answers = client.predict_batch([(row.image, row.text) for row in held_out])
    copies = client.embed_batch([(_copy(row.image), row.text.upper()) for row in held_out]).vectors
    order = np.argsort(-(asked @ shelf.T), axis=1)[:, :5]
    labels, truth = np.array([row.label for row in rows]), np.array([row.label for row in held_out])
    votes = [max(set(five), key=list(five).count) for five in labels[order].tolist()]
    originals = np.argmax(copies @ asked.T, axis=1)
    return {
        "vector": shelf.shape[1],
        "predicted_class_right": float(np.mean([one.label for one in answers] == truth)),
        "nearest_of_its_class": float(np.mean(labels[order[:, 0]] == truth)),
        "five_nearest_of_its_class": float(np.mean(np.array(votes) == truth)),
        "copy_finds_original": float(np.mean(originals == np.arange(len(held_out)))),
    }


def _copy(path: Path) -> bytes:
    """Three quarters of the size, as JPEG of quality 60, a little brighter."""
    with Image.open(path) as image:
        smaller = image.convert("RGB").resize((image.width * 3 // 4, image.height * 3 // 4))
    data = io.BytesIO()
    ImageEnhance.Brightness(smaller).enhance(1.05).save(data, "JPEG", quality=60)
    return data.getvalue()


def _faithfulness(client: Client, held_out: tuple[Row, ...]) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    whole, patches, words, shares = [], [], [], []
    for row in held_out:
        found = client.explain(row.image, row.text)
        whole.append(found.probability)
        shares.append(found.image_share)
        ranked = np.argsort(-found.image_relevance.ravel())
        choices = (ranked[:PATCHES], draw.permutation(len(ranked))[:PATCHES], ranked[-PATCHES:])
        patches.append([_probability(client, found, _painted(found, cells), row.text) for cells in choices])
        if len(found.words) > 1:
            best = max(range(len(found.words)), key=lambda place: found.words[place].relevance)
            kept = (_without(found, place) for place in (best, int(draw.integers(len(found.words)))))
            words.append([found.probability, *(_probability(client, found, found.pixels, text) for text in kept)])
    most, any_, least = np.mean(patches, axis=0).tolist()
    of_words = np.mean(words, axis=0).tolist()
    return {
        "explained": len(held_out),
        "probability": float(np.mean(whole)),
        "image_share": float(np.mean(shares)),
        "painted_patches": PATCHES,
        "without_most_relevant_patches": most,
        "without_random_patches": any_,
        "without_least_relevant_patches": least,
        "texts_of_several_words": len(words),
        "their_probability": of_words[0],
        "without_most_relevant_word": of_words[1],
        "without_random_word": of_words[2],
    }


def _painted(found: Explanation, cells: np.ndarray) -> np.ndarray:
    rows, columns = found.image_relevance.shape
    height, width = found.pixels.shape[:2]
    cell = (np.arange(height) * rows // height)[:, None] * columns + np.arange(width) * columns // width
    image = found.pixels.copy()
    image[np.isin(cell, cells)] = np.rint(found.pixels.mean(axis=(0, 1))).astype(np.uint8)
    return image


def _without(found: Explanation, place: int) -> str:
    word = found.words[place]
    return (found.text[: word.start] + found.text[word.start + len(word.text) :]).strip()


def _probability(client: Client, found: Explanation, image: np.ndarray, text: str) -> float:
    answer = client.predict(image, text)
    return float(answer.probabilities[answer.labels.index(found.label)])


def _time(client: Client, row: Row, rounds: int) -> dict[str, Any]:
    data = row.image.read_bytes()
    timings = interleave(
        {
            "predict": lambda: times(lambda: client.predict(data, row.text), 5),
            "explain": lambda: times(lambda: client.explain(data, row.text), 1),
        },
        rounds,
    )
    found = {f"{name}_milliseconds": statistics.median(each["p50"]) * 1e3 for name, each in timings.items()}
    return {**found, "explain_over_predict": ratio(timings, "explain", "predict")}


if __name__ == "__main__":
    main()
