"""batching.config: sizes that fit the warmup, the clients and the CPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from serving.check.findings import Finding, finding
from serving.check.manifests.files import ConfigFile
from serving.check.manifests.objects import Manifests
from serving.check.manifests.servers import servers
from serving.models_config import textproto

__all__ = ["WARMED_UP", "check", "check_file"]

WARMED_UP: Final = (1, 2, 4, 8, 16, 32)
"""Batch sizes that an export warms up by default (`python -m export export --batch-sizes`)."""


_WRAPPED = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
_FIELDS = {
    *_WRAPPED,
    "thread_pool_name",
    "allowed_batch_sizes",
    "pad_variable_length_inputs",
    "enable_large_batch_splitting",
    "max_execution_batch_size",
}


def check(
    manifests: Manifests, warmed_up: Iterable[int] = WARMED_UP, client_batch: int | None = None
) -> Iterator[Finding]:
    for server in servers(manifests):
        file = server.file("batching_parameters_file")
        if server.on("enable_batching") and file is not None and file.text is not None:
            yield from check_file(file, warmed_up, client_batch, server.limit("cpu"))


def check_file(
    file: ConfigFile, warmed_up: Iterable[int], client_batch: int | None, cpus: float | None
) -> Iterator[Finding]:
    """Mistakes in a batching.config: against the export's warmup, the client's batches and the CPUs."""
    try:
        root = textproto.parse(file.text or "")
        values = {name: found[1].integer("value", 0) if (found := root.message(name)) else None for name in _WRAPPED}
        sizes = [textproto.integer(entry) for entry in root.all("allowed_batch_sizes")]
    except textproto.TextProtoError as error:
        yield finding("batching-syntax", file, "", error)
        return
    for entry in root.fields:
        if entry.name not in _FIELDS:
            yield finding("batching-field", file, f":{entry.line}", entry.name)
    for name, value in values.items():
        if value is None or value < (0 if name == "batch_timeout_micros" else 1):
            yield finding("batching-value", file, "", value, name=name)
    largest = values["max_batch_size"]
    if sizes and (sizes != sorted(set(sizes)) or (largest is not None and sizes[-1] != largest)):
        yield finding("batching-sizes", file, "", sizes, largest=largest)
    cold = sorted(set(sizes) - set(warmed_up))
    if cold or not sizes:
        yield finding("batching-warmup", file, "", cold or "none, so every size", warmed_up=tuple(warmed_up))
    if client_batch is not None and largest is not None and client_batch > largest:
        yield finding("batching-client", file, "", largest, client_batch=client_batch)
    threads, most = values["num_batch_threads"], max(1, int(cpus or 0))
    if threads is not None and cpus is not None and threads > most:
        yield finding("batching-threads", file, "", threads, most=most)
    if (values["max_enqueued_batches"] or 0) > 1000:
        yield finding("batching-queue", file, "", values["max_enqueued_batches"])
    if (values["batch_timeout_micros"] or 0) > 100_000:
        yield finding("batching-timeout", file, "", values["batch_timeout_micros"])
    padded = [entry.value for entry in root.all("pad_variable_length_inputs")]
    if padded and isinstance(padded[-1], textproto.Scalar) and str(padded[-1].value).lower() in ("true", "t", "1"):
        yield finding("batching-padding", file, "", "true")
