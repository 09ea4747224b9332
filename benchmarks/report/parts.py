"""What the report is made of: each part is a question, the command that answers it, and where the answer lies."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.report import large_tables, tables, training_tables
from benchmarks.report.tables import Table

__all__ = ["DATA", "PARTS", "Part"]

DATA: Final = Path("build/demo/data")
_STORE: Final = Path("build/demo/models/emoji")
_LARGE: Final = Path("build/large/large")
_COMPACT: Final = Path("build/large/compact")
_ATTENTION: Final = ("--fusion", "attention")
_RUN: Final = Path("build/demo/runs/attention")


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One benchmark.

    Attributes:
        name: What `--only` calls it.
        title: The heading.
        question: What it answers.
        result: Name of its JSON in the folder of results.
        module: What `python -m` runs.
        arguments: For a run; "{out}" is a folder for what it writes, "{data}" the demo's data.
        quick: To add for a quick run, whose figures are rough.
        tables: What the JSON says.
        plot: Name of its plot, None without one.
        stdout: Whether the JSON is what the command prints.
        writes: Where in "{out}" it writes, when that is not `result` and `plot`.
        needs: What must be there, with the arguments of Python that make it.
    """

    name: str
    title: str
    question: str
    result: str
    module: str
    arguments: tuple[str, ...]
    quick: tuple[str, ...]
    tables: Callable[[Any], list[Table]]
    plot: str | None = None
    stdout: bool = False
    writes: str = ""
    needs: tuple[tuple[Path, tuple[str, ...]], ...] = ()

    def command(self, out: Path, *, quick: bool = False) -> list[str]:
        """The command that measures it into a folder."""
        words = [*self.arguments, *(self.quick if quick else ())]
        return [sys.executable, "-m", *self.module.split(), *(word.format(out=out, data=DATA) for word in words)]

    def shown(self, out: Path, *, quick: bool = False) -> str:
        """The command, as a user types it."""
        return shlex.join(["python", *self.command(out, quick=quick)[1:]])


_DATA_NEEDED: Final = (DATA / "manifest.csv", ("-m", "export", "data", str(DATA)))
_MODEL_NEEDED: Final = (_STORE, ("-m", "demo"))

PARTS: Final[Sequence[Part]] = (
    Part(
        "compare",
        "Which model to choose",
        "Accuracy, calibration, size, memory and speed of every candidate, as it is served.",
        "compare.json",
        "export compare",
        ("{data}", "--out", "{out}/compare"),
        ("--epochs", "2"),
        tables.comparison,
        "compare.png",
        writes="compare",
        needs=(_DATA_NEEDED,),
    ),
    Part(
        "fusion",
        "Whether two inputs are better than one",
        "Each input alone and every fusion, with another split and training for every seed.",
        "fusion_accuracy.json",
        "benchmarks.fusion_accuracy",
        ("{data}", "--work", "{out}/trainings.json", "--out", "{out}/fusion"),
        ("--seeds", "2", "--epochs", "2"),
        training_tables.fusion,
        "fusion_accuracy.png",
        writes="fusion",
        needs=(_DATA_NEEDED,),
    ),
    Part(
        "ablation",
        "What naive training costs",
        "One fusion and each input alone, with parts of the training left out, or all of them.",
        "fusion_ablation.json",
        "benchmarks.fusion_ablation",
        ("{data}", "--work", "{out}/trainings.json", "--out", "{out}/fusion"),
        ("--seeds", "1", "--epochs", "2"),
        training_tables.ablation,
        "fusion_ablation.png",
        writes="fusion",
        needs=(_DATA_NEEDED,),
    ),
    Part(
        "client",
        "How fast the client is",
        "Against the floor of each task and the existing clients, taken in turns in one run.",
        "client_speed.json",
        "benchmarks.client_speed",
        ("--output", "{out}/client_speed.json"),
        ("--rounds", "3", "--seconds", "0.3"),
        tables.client_speed,
        "client_speed.png",
    ),
    Part(
        "server",
        "How fast the embedded server is, with the demo's model",
        "Against the same model in the calling process, and against an empty gRPC server.",
        "server_speed_emoji.json",
        "benchmarks.server_speed",
        ("--model", str(_STORE), "--out", "{out}"),
        ("--rounds", "2", "--seconds", "0.5"),
        tables.server_speed,
        "server_speed_emoji.png",
        needs=(_MODEL_NEEDED,),
    ),
    Part(
        "server-reference",
        "How fast the embedded server is, with the reference model at 224 pixels",
        "The same, where the model itself is most of the work.",
        "server_speed_reference.json",
        "benchmarks.server_speed",
        ("--preset", "reference", "--out", "{out}"),
        ("--rounds", "2", "--seconds", "0.5"),
        tables.server_speed,
        "server_speed_reference.png",
    ),
    Part(
        "speech",
        "How long a clip takes to become the model's input",
        "In the client and in the served graph, and whether both come to the same pixels.",
        "speech.json",
        "benchmarks.speech",
        ("--json",),
        ("--rounds", "1", "--clips", "100"),
        training_tables.speech,
        stdout=True,
    ),
    Part(
        "embed-explain",
        "What the vectors and the explanations are worth",
        "Over the wire, on held-out pairs: search, duplicates, and whether what is called relevant is.",
        "embed_explain.json",
        "benchmarks.embed_explain",
        (str(_RUN), "{data}", "--out", "{out}/embed_explain.json"),
        ("--explained", "10", "--rounds", "1"),
        training_tables.embed_explain,
        needs=((_RUN, ("-m", "demo")),),
    ),
    Part(
        "large",
        "What a model of over 100 million parameters takes",
        "To train, export and serve it, with weights in four, two and one byte, beside the demo's model.",
        "large_model.json",
        "benchmarks.large_model",
        ("{data}", "--runs", str(_LARGE), str(_COMPACT), "--out", "{out}"),
        ("--rounds", "1"),
        large_tables.large,
        needs=(
            _DATA_NEEDED,
            (
                _LARGE,
                (
                    "-m",
                    "export",
                    "train",
                    str(DATA),
                    *_ATTENTION,
                    "--preset",
                    "large",
                    "--epochs",
                    "2",
                    "--out",
                    str(_LARGE),
                ),
            ),
            (_COMPACT, ("-m", "export", "train", str(DATA), *_ATTENTION, "--out", str(_COMPACT))),
        ),
    ),
    Part(
        "memory",
        "Whether the server's memory stays flat",
        "Over hot loads of new versions, then over calls from eight callers.",
        "server_memory.json",
        "benchmarks.server_memory",
        ("--out", "{out}"),
        ("--loads", "20", "--calls", "5000"),
        tables.memory,
        "server_memory.png",
    ),
    Part(
        "rollout",
        "What callers notice of a rollout",
        "Five replicas under constant load: a good version, and every kind of bad one.",
        "rollout.json",
        "benchmarks.rollout_plot",
        ("--out", "{out}"),
        ("--rate", "10"),
        tables.rollout,
        "rollout.png",
    ),
)
