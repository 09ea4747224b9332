"""What the benchmarks of trainings say as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.report.tables import Cell, Table, interval, number, spread, table, text

__all__ = ["ablation", "embed_explain", "fusion", "speech"]

Json = Mapping[str, Any]


def fusion(found: Json) -> list[Table]:
    """`benchmarks.fusion_accuracy`."""
    against = f"points against {found['yardstick']}"
    columns = ("model", "held out", against, "by the bootstrap", "in each seed", "training rows", "trained in")
    rows = [
        [
            text(model["name"] + (" *" if model["name"] == found["primary"] else "")),
            interval(model["accuracy"]),
            interval(model.get("gain"), signed=True),
            interval(model.get("gain_bootstrap"), signed=True),
            _points(model.get("gain_of_seeds", ())),
            _percent(model["train_accuracy"]),
            number(model["seconds"], 0, " s"),
        ]
        for model in found["models"]
    ]
    caption = (
        f"Preset {found['preset']}, {_seeds(found)}, {_rows(found)} held-out rows: mean (95 % interval)."
        " * was decided on before the first run."
    )
    trainings = [
        [
            text(each["name"]),
            text(each["seed"]),
            _percent(each["accuracy"]),
            _percent(each["balanced_accuracy"]),
            number(each["loss"], 3),
            _percent(each["train_accuracy"]),
            number(each["seconds"], 0, " s"),
        ]
        for each in found["trainings"]
    ]
    head = ("model", "seed", "held out", "mean of the classes", "loss", "training rows", "trained in")
    return [table(caption, columns, rows), _uses(found, "model"), table("Every training", head, trainings)]


def ablation(found: Json) -> list[Table]:
    """`benchmarks.fusion_ablation`."""
    head = ("training", "held out", f"points against {found['yardstick']}", "in each seed", "training rows")
    rows = [
        [
            text(model["name"]),
            _percent(model["accuracy"]),
            interval(model.get("gain"), signed=True),
            _points(model.get("gain_of_seeds", ())),
            _percent(model["train_accuracy"]),
            number(model["seconds"], 0, " s"),
        ]
        for model in found["models"]
    ]
    caption = f"{_seeds(found)}, {_rows(found)} held-out rows: mean (95 % interval by the bootstrap)"
    loud = [
        [text(model["name"]), *(number(by[one], 2) for one in ("text", "image", "text_over_image"))]
        for model in found["models"]
        if (by := model.get("loudness"))
    ]
    columns = ("training", "the text", "the picture", "text over picture")
    return [
        table(caption, (*head, "trained in"), rows),
        _uses(found, "training"),
        table("How far each input moves the logits, root mean square on held-out rows", columns, loud),
    ]


def speech(found: Json) -> list[Table]:
    """`benchmarks.speech`."""
    times = [
        [text(name), number(each["p50"], 1, " ms", scale=1e-3), number(each["p95"], 1, " ms", scale=1e-3)]
        for name, each in found["microseconds"].items()
    ]
    pixels = [[number(found[name], 0) for name in ("clips", "pixels", "different", "most")]]
    head = ("clips", "pixels", "that differ", "by so many levels at most")
    return [
        table("A clip of two seconds to the input of the model", ("what", "p50", "p95"), times),
        table("Pixels of the client and of the graph", head, pixels),
    ]


def _uses(found: Json, what: str) -> Table:
    """What each input is good for in a model that has both."""
    rows = [
        [text(model["name"]), *(_percent(by[which][one]) for one in ("text", "image") for which in ("train", "test"))]
        for model in found["models"]
        if (by := model.get("right_by"))
    ]
    columns = (what, "by the text: training rows", "held out", "by the picture: training rows", "held out")
    return table(f"Right when the other input comes from another row, by {what}", columns, rows)


def embed_explain(found: Json) -> list[Table]:
    """`benchmarks.embed_explain`."""
    pairs = found["pairs"]
    search = [
        ("held-out pairs", number(pairs["test"], 0)),
        ("among so many training pairs", number(pairs["train"], 0)),
        ("numbers in a vector", number(found["vector"], 0)),
        ("class predicted right", _percent(found["predicted_class_right"])),
        ("nearest training pair is of its class", _percent(found["nearest_of_its_class"])),
        ("most of the five nearest are", _percent(found["five_nearest_of_its_class"])),
        ("a copy finds its original among the held-out pairs", _percent(found["copy_finds_original"])),
    ]
    pictures = [
        ("as it is", found["probability"]),
        ("without the most relevant patches", found["without_most_relevant_patches"]),
        ("without random ones", found["without_random_patches"]),
        ("without the least relevant ones", found["without_least_relevant_patches"]),
    ]
    texts = [
        ("as it is", found["their_probability"]),
        ("without the most relevant word", found["without_most_relevant_word"]),
        ("without a random one", found["without_random_word"]),
    ]
    other = [
        ("pairs that were explained", number(found["explained"], 0)),
        ("patches that are painted over, of 64", number(found["painted_patches"], 0)),
        ("texts of several words", number(found["texts_of_several_words"], 0)),
        ("the image's share, mean", _percent(found["image_share"])),
        ("predict, one caller, p50", number(found["predict_milliseconds"], 1, " ms")),
        ("explain, one caller, p50", number(found["explain_milliseconds"], 1, " ms")),
        ("explain against predict", spread(found["explain_over_predict"], 1)),
    ]
    return [
        table("Vectors", ("what", "figure"), [[text(name), cell] for name, cell in search]),
        table("Probability of the class: the picture", ("picture", "mean"), [_named(*row) for row in pictures]),
        table("Probability of the class: the text", ("text", "mean"), [_named(*row) for row in texts]),
        table("Explanations", ("what", "figure"), [[text(name), cell] for name, cell in other]),
    ]


def _named(name: str, share: float) -> list[Cell]:
    return [text(name), _percent(share)]


def _percent(share: float) -> Cell:
    return number(share, 1, " %", scale=100)


def _points(values: Iterable[float]) -> Cell:
    found = tuple(values)
    return Cell(", ".join(f"{value * 100:+.1f}" for value in found) or "-", found)


def _seeds(found: Json) -> str:
    count = len(found["seeds"])
    return f"{count} seed{'' if count == 1 else 's'}"


def _rows(found: Json) -> str:
    counts = sorted(set(found["held_out"]), key=lambda count: int(count.replace(",", "")))
    return counts[0] if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
