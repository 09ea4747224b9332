"""`duoserve`: predict, embed, explain, describe, status, score and bench from a shell."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from duoserve import _bench, _printed
from duoserve.aio import AsyncClient
from duoserve.arguments import positive
from duoserve.client import Client
from duoserve.console import guarded, put, say
from duoserve.errors import DuoserveError, InvalidInput
from duoserve.options import TLS

if TYPE_CHECKING:
    from PIL import Image

_PREFIX = "duoserve: "
_EPILOG = (
    "Exit codes: 0 done, 1 the call failed or stdout can't be written, 2 wrong usage or input, 130 interrupted,"
    " 141 stdout was closed."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return guarded(lambda: _run(arguments), prefix=_PREFIX)


class _Shown(NamedTuple):
    """What a command prints: a JSON object, or lines."""

    record: Mapping[str, Any]
    lines: Iterable[str]
    code: int = 0


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    try:
        record, lines, code = options.command(options)
        for line in (json.dumps(record, ensure_ascii=False),) if options.json else lines:
            say(line)
    except DuoserveError as error:
        put(sys.stderr, f"{_PREFIX}{type(error).__name__}: {error}\n")
        record = {"error": type(error).__name__, "message": error.message, "code": error.code}
        record["retryable"] = error.retryable
        if options.json:
            say(json.dumps(record, ensure_ascii=False))
        return 2 if isinstance(error, InvalidInput) else 1
    except KeyboardInterrupt:
        return 130
    return int(code)


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    add = shared.add_argument
    text = "or dns:///name:port, or several, separated by commas (default: %(default)s)"
    add("--server", default="localhost:8500", metavar="HOST:PORT", help=text)
    add("--model", required=True, help="name of the model")
    which = shared.add_mutually_exclusive_group()
    which.add_argument("--label", help="version label, such as stable (default: the latest version)")
    which.add_argument("--version", type=int, help="version number")
    add("--timeout", type=float, default=10.0, metavar="SECONDS", help="for the whole call (default: %(default)s)")
    add("--tls", action="store_true", help="encrypt; trust the usual certificate authorities")
    add("--ca", metavar="PEM", help="encrypt; trust these certificates")
    add("--cert", metavar="PEM", help="this client's certificate; needs --key")
    add("--key", metavar="PEM", help="the private key of --cert")
    add("--server-name", metavar="NAME", help="name to expect in the server's certificate")
    add("--json", action="store_true", help="print one JSON object")

    inputs = argparse.ArgumentParser(add_help=False)
    medium = inputs.add_mutually_exclusive_group()
    medium.add_argument("--image", metavar="FILE", help="JPEG, PNG or WebP")
    medium.add_argument("--audio", metavar="FILE", help="WAV, FLAC or OGG, for a model that takes audio")
    inputs.add_argument("--text", help="any text (image or text may be left out if the version allows it)")

    sending = argparse.ArgumentParser(add_help=False)
    text = "who preprocesses (default: %(default)s)"
    sending.add_argument("--send", choices=("auto", "tensors", "bytes"), default="auto", help=text)

    parser = argparse.ArgumentParser(
        prog="duoserve", description="Calls an image and text model on TensorFlow Serving.", epilog=_EPILOG
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Any, text: str, *more: argparse.ArgumentParser) -> argparse.ArgumentParser:
        found = commands.add_parser(name, parents=[shared, *more], help=text, description=text, epilog=_EPILOG)
        found.set_defaults(command=function)
        return found

    text = "Predict for one image (or clip) with its text, or for one of them alone."
    predict = command("predict", _predict, text, inputs, sending)
    _add_count(predict, "--top", 5, "classes or tags to show", metavar="K")
    text = "Make a vector of one image (or clip) with its text; compare vectors by dot product."
    command("embed", _embed, text, inputs)
    text = "Show which words and which parts of the image (or clip) decided."
    explain = command("explain", _explain, text, inputs)
    text = "class, tag or score to explain (default: the most probable; the first score)"
    explain.add_argument("--class", dest="of", metavar="NAME", help=text)
    explain.add_argument("--out", type=Path, metavar="PNG", help="write the heat map to this file")
    command("describe", _describe, "Show which input the served version takes, and its signatures.")
    command("status", _status, "Show the states of the model's versions on one server.")
    scoring = command("score", _score, "Predict for every row of a table; run it again to resume.", sending)
    text = "CSV, JSON Lines (.jsonl) or Parquet with columns image (or audio) and text"
    scoring.add_argument("table", type=Path, help=text)
    scoring.add_argument("--out", type=Path, required=True, metavar="FILE", help="the rows with their answers")
    _add_count(scoring, "--concurrency", 8, "requests in parallel")
    _add_count(scoring, "--rows", 32, "most rows of a request")
    text = "how long to retry rows while the server can't answer (default: %(default)s)"
    scoring.add_argument("--patience", type=float, default=60.0, metavar="SECONDS", help=text)
    bench = command("bench", _run_bench, "Load the server and print the latencies.", sending)
    medium = bench.add_mutually_exclusive_group()
    medium.add_argument("--image", metavar="FILE", help="JPEG, PNG or WebP (default: a generated photo of 640x480)")
    medium.add_argument("--audio", metavar="FILE", help="WAV, FLAC or OGG (default for a model that takes it: noise)")
    bench.add_argument("--text", default="a photo of something", help="text to send (default: %(default)r)")
    load = bench.add_mutually_exclusive_group()
    text = "callers, each waiting for its answer (default: 8)"
    load.add_argument("--concurrency", type=positive, metavar="N", help=text)
    text = "open loop: calls start at this rate in any case"
    load.add_argument("--rate", type=float, metavar="PER_SECOND", help=text)
    bench.add_argument("--duration", type=float, default=10.0, metavar="SECONDS", help="default: %(default)s")
    text = "not counted (default: %(default)s)"
    bench.add_argument("--warmup", type=float, default=1.0, metavar="SECONDS", help=text)
    bench.add_argument("--prepared", action="store_true", help="prepare the tensors once instead of for each call")
    return parser


def _add_count(parser: argparse.ArgumentParser, name: str, default: int, text: str, metavar: str = "N") -> None:
    parser.add_argument(name, type=positive, default=default, metavar=metavar, help=f"{text} (default: %(default)s)")


def _client_options(options: argparse.Namespace) -> dict[str, Any]:
    paths = {name: getattr(options, name) for name in ("ca", "cert", "key", "server_name")}
    several = "," in options.server and ":/" not in options.server
    return {
        "address": options.server.split(",") if several else options.server,
        "model": options.model,
        "label": options.label,
        "version": options.version,
        "timeout": options.timeout,
        "tls": TLS(**paths) if options.tls or any(paths.values()) else None,
        "send": getattr(options, "send", "auto"),
    }


def _predict(options: argparse.Namespace) -> _Shown:
    with Client(**_client_options(options)) as client:
        answer = client.predict(options.image, options.text, audio=options.audio)
    return _Shown(_printed.prediction_record(answer, options.top), _printed.prediction_lines(answer, options.top))


def _embed(options: argparse.Namespace) -> _Shown:
    with Client(**_client_options(options)) as client:
        found = client.embed(options.image, options.text, audio=options.audio)
    record = {"vector": found.vector.tolist(), "version": found.version, "target": found.target}
    numbers = " ".join(f"{number:.6f}" for number in found.vector)
    return _Shown(record, (numbers, f"version {found.version}, {len(found.vector)} numbers"))


def _explain(options: argparse.Namespace) -> _Shown:
    if options.out is not None and (options.out.is_dir() or not options.out.parent.is_dir()):
        raise InvalidInput(f"Expected --out to be a file that can be written. Received: {options.out}")
    with Client(**_client_options(options)) as client:
        found = client.explain(options.image, options.text, label=options.of, audio=options.audio)
    if options.out is not None:
        _write_png(options.out, found.heat_map(options.image))
    medium = "audio" if options.audio else "image"
    in_colour = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return _Shown(
        _printed.explanation_record(found, options.out),
        _printed.explanation_lines(found, options.out, medium, in_colour),
    )


def _write_png(path: Path, image: Image.Image) -> None:
    """Writes the whole file or nothing."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        image.save(scratch, "PNG")
        scratch.replace(path)
    except OSError as error:
        raise InvalidInput(f"Expected --out to be a file that can be written. Received: {error}") from error
    finally:
        scratch.unlink(missing_ok=True)


def _describe(options: argparse.Namespace) -> _Shown:
    with Client(**_client_options(options)) as client:
        spec, served = client.describe(), client.signatures()
    return _Shown(_printed.describe_record(spec, served), _printed.describe_lines(spec, served))


def _status(options: argparse.Namespace) -> _Shown:
    with Client(**_client_options(options)) as client:
        versions = client.status()
    lines = [f"{version.version:>8}  {version.state:<10}  {version.error}".rstrip() for version in versions]
    return _Shown({"versions": [dataclasses.asdict(version) for version in versions]}, lines)


def _score(options: argparse.Namespace) -> _Shown:
    from duoserve.score import Scoring

    described = _client_options(options)
    identity = json.dumps([described[name] for name in ("address", "model", "label", "version", "send")])
    with Client(**described, max_batch_size=options.rows) as client:
        progress = None if options.json else _show_progress
        given = {name: getattr(options, name) for name in ("table", "out", "concurrency", "rows", "patience")}
        report = Scoring(client=client, identity=identity, progress=progress, **given).run()
    resumed = f", {report.resumed} of them from an earlier run" if report.resumed else ""
    total = f"{report.rows} rows{resumed}; {report.rows_per_second:.0f} rows/s; {report.failed} failed"
    errors = (f"  row {row}: {error}" for row, error in report.errors.items())
    return _Shown({**dataclasses.asdict(report), "out": str(options.out)}, (f"{total}; in {options.out}", *errors))


def _run_bench(options: argparse.Namespace) -> _Shown:
    async def run() -> _bench.Report:
        async with AsyncClient(**_client_options(options)) as client:
            return await _bench.run(client, options, None if options.json else _show_progress)

    report = asyncio.run(run())
    return _Shown(dataclasses.asdict(report), report.lines(), 0 if report.calls else 1)


def _show_progress(share: float, what: str) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        bar = "#" * int(share * 30)
        end = "\n" if share >= 1 else ""
        print(f"\r[{bar:<30}] {share:4.0%}  {what}", end=end, file=sys.stderr, flush=True)
