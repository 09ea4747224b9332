"""Fits the head on the demo's data, reports what each part brings, and writes the model.

    python -m demo.pretrained.train build/demo/data build/demo/pretrained

Into the second folder go `model.weights.h5`, `vocab.txt`, `labels.txt`, `pretrained.toml`, which
`python -m export export --settings` takes, and `accuracy.json`.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from demo.pretrained.features import IMAGES, features
from demo.pretrained.head import Head, fit
from demo.pretrained.joined import assemble, encoders
from demo.pretrained.weights import image_weights, text_weights, tokenizer_files
from export.dataset.data import Dataset, load_dataset
from export.selection.statistics import Interval, proportion, resampled

SPLITS: Final = 5
_SHARE: Final = 0.2
_PARTS: Final = {
    "text": [number for number, image in enumerate(IMAGES) if not image],
    "image": [number for number, image in enumerate(IMAGES) if image],
    "both": list(range(len(IMAGES))),
}
SETTINGS: Final = """\
model = "demo.pretrained.joined:build"
arguments = {{ classes = {classes}, rows = {rows} }}
weights = "model.weights.h5"
tokenizer = "vocab.txt"
labels = "labels.txt"
samples = "{samples}"
embed = "joined"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="has manifest.csv with image,text,label,split")
    parser.add_argument("out", type=Path, help="where the model goes")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for path in tokenizer_files():
        shutil.copyfile(path, options.out / path.name)

    data = load_dataset(options.data, progress=False)
    begin = time.monotonic()
    frozen = encoders(text_weights(), image_weights())
    vectors = features(data, frozen, options.out / "vocab.txt", options.out / "features.npz")
    print(f"Features of {len(data.rows)} rows: {time.monotonic() - begin:.0f} s", flush=True)

    begin = time.monotonic()
    report, head = _measure(data, vectors)
    print(f"{3 * (SPLITS + 1)} heads fitted: {time.monotonic() - begin:.0f} s")
    print(f"The head of both chose {', '.join(f'{name} {value:.3g}' for name, value in head.chosen.items())}")
    (options.out / "accuracy.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    assemble(head, frozen).save_weights(options.out / "model.weights.h5")
    (options.out / "labels.txt").write_text("\n".join(data.labels) + "\n", encoding="utf-8")
    settings = SETTINGS.format(
        classes=len(data.labels), rows=len(data.select("train")), samples=options.data.absolute()
    )
    (options.out / "pretrained.toml").write_text(settings, encoding="utf-8")  # last: says that all is there


def _measure(data: Dataset, vectors: list[Any]) -> tuple[dict[str, Any], Head]:
    """How many held-out rows each part gets right, which it prints too; the head of both for the demo's split."""
    splits = [data, *(data.resplit(_SHARE, salt=f"seed {seed} ") for seed in range(SPLITS))]
    report: dict[str, Any] = {}
    print(f"{'right on held-out rows':<24}{'the demo split':<26}{SPLITS} other splits")
    for name, parts in _PARTS.items():
        found = [
            _fitted(split, [vectors[part] for part in parts], [IMAGES[part] for part in parts]) for split in splits
        ]
        groups = [row.group for row in data.select("test")]
        one = proportion(found[0][1], groups)
        shares = [float(right.mean()) for _, right in found[1:]]
        mean = resampled(shares, _SHARE)
        report[name] = {"demo_split": one._asdict(), "splits": shares, "mean": mean._asdict()}
        print(f"{name:<24}{_shown(one):<26}{_shown(mean)}", flush=True)
        head = found[0][0]
    return report, head


def _fitted(data: Dataset, vectors: list[Any], images: list[bool]) -> tuple[Head, Any]:
    train = np.array([row.split == "train" for row in data.rows])
    classes = np.array([data.labels.index(row.label) for row in data.rows])
    groups = [row.group for row in data.select("train")]
    head = fit([each[train] for each in vectors], images, classes[train], groups)
    return head, head([each[~train] for each in vectors]).argmax(axis=1) == classes[~train]


def _shown(interval: Interval) -> str:
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"


if __name__ == "__main__":
    main()
