"""Embedded servers with different settings under the same load: throughput against latency."""

import contextlib
import dataclasses
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from duoserve import Client
from serving.capacity.measuring import Level, Progress, Rows, load, saturation
from serving.capacity.patches import batching_config
from serving.capacity.plan import Batching
from serving.local.testing import LocalServer

_MOST_CALLERS = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One way to run the server: threads of one operation, operations in parallel, entries of batching.config."""

    intra: int
    inter: int
    batching: Batching = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """For tables and the legend of the plot."""
        threads = f"intra {self.intra}, inter {self.inter}"
        if not self.batching:
            return f"{threads}, no batching"
        batch_threads, timeout = (self.batching[key] for key in ("num_batch_threads", "batch_timeout_micros"))
        return f"{threads}, batch threads {batch_threads}, timeout {timeout} µs"


@dataclasses.dataclass(frozen=True, slots=True)
class Tuned:
    """The results of a setting, by number of callers."""

    setting: Setting
    levels: tuple[Level, ...]

    def within(self, target_ms: float) -> Level | None:
        """The level of the highest throughput whose p99 is within a target."""
        good = [level for level in self.levels if level.p99 <= target_ms]
        return max(good, key=lambda level: level.throughput, default=None)


def settings(cpus: int, sizes: Sequence[int]) -> list[Setting]:
    """The settings to try: as many threads as CPUs or one, batching off and on, for warmed up batch sizes."""
    found = [Setting(intra, cpus) for intra in dict.fromkeys((1, cpus))]
    for threads, timeout in itertools.product(dict.fromkeys((1, cpus)), (0, 2000)):
        queue: Batching = {
            "max_batch_size": max(sizes),
            "batch_timeout_micros": timeout,
            "max_enqueued_batches": 64,
            "num_batch_threads": threads,
            "allowed_batch_sizes": sorted(sizes),
        }
        # Parallel batches share the CPUs.
        found.append(Setting(max(1, cpus // threads), cpus, queue))
    return found


def tune(
    store: Path, model: str, tried: Sequence[Setting], seconds: float, progress: Progress = lambda what, share: None
) -> list[Tuned]:
    """Starts a server of the newest version for each setting, one at a time, and loads it with more and more callers.

    Args:
        store: Root of the model store.
        model: The model's name.
        tried: The settings.
        seconds: Total time under load, without the starts.
        progress: Called with the current setting.

    Raises:
        ServerDiedError, DuoserveError: A server did not start, or does not answer.
    """
    found = []
    for number, setting in enumerate(tried):
        progress(setting.name, number / len(tried))
        with _served(store, model, setting) as client:
            rows = Rows(client)
            load(rows.ask, 2, min(1.0, seconds / len(tried) / 4))
            found.append(Tuned(setting, saturation(rows, seconds / len(tried), most=_MOST_CALLERS)))
    progress("done", 1.0)
    return found


@contextlib.contextmanager
def _served(store: Path, model: str, setting: Setting) -> Iterator[Client]:
    flags = [
        f"--model_name={model}",
        f"--model_base_path={(store / model).absolute()}",
        f"--tensorflow_intra_op_parallelism={setting.intra}",
        f"--tensorflow_inter_op_parallelism={setting.inter}",
        "--grpc_max_threads=64",
    ]
    with tempfile.TemporaryDirectory(prefix="capacity-") as folder:
        if setting.batching:
            path = Path(folder) / "batching.config"
            path.write_text(batching_config(setting.batching), encoding="utf-8")
            flags += ["--enable_batching=true", f"--batching_parameters_file={path}"]
        with LocalServer(*flags) as server, Client(server.address, model=model, timeout=60) as client:
            yield client


def best(found: Sequence[Tuned], target_ms: float) -> Tuned | None:
    """The setting with the highest throughput whose p99 is within the target; None when no setting has one."""
    levels = [(level.throughput, number) for number, tuned in enumerate(found) if (level := tuned.within(target_ms))]
    return found[max(levels)[1]] if levels else None


def text(found: Sequence[Tuned], target_ms: float) -> str:
    """Every setting with its best level within the target, the best setting first."""
    lines = [f"calls/s   p99 ms   callers   setting (p99 within {target_ms:g} ms)"]
    levels = [(tuned.within(target_ms), tuned) for tuned in found]
    winner = best(found, target_ms)
    for level, tuned in sorted(levels, key=lambda pair: -(pair[0].throughput if pair[0] else 0.0)):
        figures = (
            f"{level.throughput:>7.0f}  {level.p99:>7.1f}  {level.callers:>8}" if level else f"{'over the target':>26}"
        )
        lines.append(f"{figures}   {tuned.setting.name}{'  <- best' if tuned is winner else ''}")
    return "\n".join(lines)


def draw(found: Sequence[Tuned], target_ms: float, path: Path) -> None:
    """Plots throughput against p99: a line for each setting, a mark for each number of callers."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    winner = best(found, target_ms)
    for tuned in found:
        width, mark = (2.5, " (best)") if tuned is winner else (1.0, "")
        points = zip(*[(level.throughput, level.p99) for level in tuned.levels], strict=True)
        axes.plot(*points, label=f"{tuned.setting.name}{mark}", linewidth=width, marker="o", markersize=4)
        for level in tuned.levels:
            axes.annotate(str(level.callers), (level.throughput, level.p99), fontsize=7, xytext=(3, 3),
                          textcoords="offset points")  # fmt: skip
    axes.axhline(target_ms, color="grey", linestyle=":", label=f"target {target_ms:g} ms")
    axes.set(xlabel="calls of one row a second", ylabel="p99, ms", yscale="log", title="By number of callers")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
