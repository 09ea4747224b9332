"""batching.config: sizes that fit the warmup, the clients and the CPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from serving.check._manifests import Finding, Manifests
from serving.check._server import servers
from serving.models_config import textproto

__all__ = ["WARMED_UP", "batching", "check"]

WARMED_UP = (1, 2, 4, 8, 16, 32)
"""Batch sizes that an export warms up unless told otherwise (`python -m export export --batch-sizes`)."""

_BATCHING = {
    "max_batch_size",
    "batch_timeout_micros",
    "max_enqueued_batches",
    "num_batch_threads",
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
            cpus = server.container.limit("cpu")
            yield from batching(file.text, file.where, file.field, warmed_up, client_batch, cpus)


def batching(
    content: str, where: str, field: str, warmed_up: Iterable[int], client_batch: int | None, cpus: float | None
) -> Iterator[Finding]:
    """What is wrong with a batching.config, for an export's warmup, the client's batches and the CPUs."""
    try:
        root = textproto.parse(content)
        wrapped = {
            name: _wrapped(root, name)
            for name in ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
        }
        sizes = [textproto.integer(entry) for entry in root.all("allowed_batch_sizes")]
    except textproto.TextProtoError as error:
        yield _batching(
            where,
            field,
            "syntax",
            "BatchingParameters in text form",
            str(error),
            "The server does not start.",
            "Correct the line.",
        )
        return
    for entry in root.fields:
        if entry.name not in _BATCHING:
            yield _batching(
                where,
                f"{field}:{entry.line}",
                "field",
                "a field of BatchingParameters",
                entry.name,
                "The server does not start.",
                "Correct its name.",
            )
    largest, threads = wrapped["max_batch_size"], wrapped["num_batch_threads"]
    for name, value in wrapped.items():
        if value is None or value < (0 if name == "batch_timeout_micros" else 1):
            yield _batching(
                where,
                field,
                "value",
                f"{name} {{ value: N }}",
                str(value),
                "The scheduler's default fits no CPU limit and no deadline.",
                "Set it.",
            )
    if sizes and (sizes != sorted(set(sizes)) or (largest is not None and sizes[-1] != largest)):
        yield _batching(
            where,
            field,
            "sizes",
            f"allowed_batch_sizes ascending, the last {largest} (max_batch_size)",
            str(sizes),
            "The server does not load the model.",
            "Correct the sizes.",
        )
    cold = sorted(set(sizes) - set(warmed_up))
    if cold or not sizes:
        yield _batching(
            where,
            field,
            "warmup",
            f"allowed_batch_sizes that an export warms up {tuple(warmed_up)}",
            str(cold or "none, so every size"),
            "The first batch of such a size is slow for all in it.",
            "Take those sizes, or export with --batch-sizes.",
        )
    if client_batch is not None and largest is not None and client_batch > largest:
        yield _batching(
            where,
            field,
            "client",
            f"max_batch_size of at least {client_batch}, the client's batches",
            str(largest),
            "Larger requests are INVALID_ARGUMENT.",
            "Raise it.",
        )
    if threads is not None and cpus is not None and threads > max(1.0, cpus):
        yield _batching(
            where,
            field,
            "threads",
            f"num_batch_threads of at most {max(1, int(cpus))}, the CPU limit",
            str(threads),
            "Batches run against each other, and every one is slower.",
            "Lower it.",
        )
    waiting = wrapped["max_enqueued_batches"]
    if waiting is not None and waiting > 1000:
        yield _batching(
            where,
            field,
            "queue",
            "max_enqueued_batches of at most 1000",
            str(waiting),
            "Calls wait past their deadline instead of being refused at once.",
            "Near what the deadline allows: `python -m serving.capacity`.",
        )
    timeout = wrapped["batch_timeout_micros"]
    if timeout is not None and timeout > 100_000:
        yield _batching(
            where,
            field,
            "timeout",
            "batch_timeout_micros of at most 100000 (0.1 s)",
            str(timeout),
            "Without load every call waits so long.",
            "Near the time of one run.",
        )
    padded = [entry for entry in root.all("pad_variable_length_inputs") if isinstance(entry.value, textproto.Scalar)]
    if padded and str(padded[-1].value.value).lower() in ("true", "t", "1"):  # type: ignore[union-attr]
        yield _batching(
            where,
            field,
            "padding",
            "pad_variable_length_inputs: false",
            "true",
            "Short token rows are filled with their own first token: wrong answers, no error.",
            "Remove it; clients pad.",
        )


def _batching(where: str, field: str, rule: str, expected: str, received: str, why: str, fix: str) -> Finding:
    return Finding(f"batching-{rule}", where, field, expected, received, why, fix)


def _wrapped(root: textproto.Message, name: str) -> int | None:
    found = root.message(name)
    return None if found is None else found[1].integer("value", 0)
