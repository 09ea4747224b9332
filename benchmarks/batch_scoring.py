"""A table through a server: `duoserve score`, Ray Data, and the server's limit.

    make env-ray
    python -m benchmarks.batch_scoring [--rows 4000] [--rounds 3]

One embedded server with the demo's model (64 pixels, optimised), and JPEGs of 640x480 in a CSV table. In turns, round
by round: `duoserve score`; client/examples/batch/ray_data.py with two workers, its start included and without; and the
floor, prepared requests of 32 rows from 8 raw stubs, which decode no image. All on the same cores as the server. Writes
results/batch_scoring.json.
"""

import csv
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, Final

from benchmarks._report import RESULTS, markdown, parser, write
from benchmarks._rounds import spread
from benchmarks._worker import Worker
from benchmarks.client_parts import jpeg
from benchmarks.graph_speed import build, request, write_ways
from serving.local.testing import LocalServer

ROOT: Final = pathlib.Path(__file__).resolve().parents[1]
RAY: Final = ROOT / ".venv-ray/bin/python"
IMAGES: Final = 50
ROWS_PER_REQUEST: Final = 32


def write_table(folder: pathlib.Path, rows: int) -> None:
    """The table with its images."""
    photo = jpeg(480, 640)
    for number in range(IMAGES):
        (folder / f"{number}.jpg").write_bytes(photo)
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "text"])
        writer.writerows([folder / f"{number % IMAGES}.jpg", f"red cat {number}"] for number in range(rows))


def measure(folder: pathlib.Path, address: str, rows: int, rounds: int) -> dict[str, Any]:
    """Rows a second of each way, and the ratio to `duoserve score` of the same round."""
    table, common = folder / "pairs.csv", ["--server", address, "--model", "m"]

    def run(*command: object) -> tuple[float, str]:
        began = time.monotonic()
        done = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True, cwd=folder)
        return time.monotonic() - began, done.stdout + done.stderr

    def score() -> dict[str, float]:
        out = folder / "score.parquet"
        seconds, report = run(sys.executable, "-m", "duoserve", "score", table, "--out", out, *common, "--json")
        assert json.loads(report.splitlines()[-1])["failed"] == 0, report
        return {"duoserve score": rows / seconds}

    def ray() -> dict[str, float]:
        seconds, log = run(RAY, ROOT / "client/examples/batch/ray_data.py", table, folder / "ray", *common)
        executed = re.search(r"execution finished in ([0-9.]+) seconds", log)
        assert executed is not None, log
        return {"Ray Data": rows / seconds, "Ray Data, without its start": rows / float(executed[1])}

    def limit() -> dict[str, float]:
        with Worker("benchmarks._load", address, str(folder / "request.bin")) as worker:
            return {"the server's limit": worker.ask(8, 5.0)["per_second"] * ROWS_PER_REQUEST}

    ways: tuple[Callable[[], dict[str, float]], ...] = (score, ray, limit)
    seen = [{name: rate for way in ways for name, rate in way().items()} for _ in range(rounds)]
    return {
        name: {
            "rows_per_second": statistics.median(each[name] for each in seen),
            "times_score": spread(each[name] / each["duoserve score"] for each in seen),
        }
        for name in seen[0]
    }


def main() -> int:
    asked = parser(__doc__, rounds=3)
    asked.add_argument("--rows", type=int, default=4000)
    asked.add_argument("--out", type=pathlib.Path, default=RESULTS / "batch_scoring.json")
    options = asked.parse_args()
    if not RAY.exists():
        asked.error(f"Expected an environment with Ray (make env-ray). Received: no {RAY}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        write_ways(*build("demo"), folder)
        write_table(folder, options.rows)
        (folder / "request.bin").write_bytes(request(folder, ROWS_PER_REQUEST))
        flags = ["--model_name=m", f"--model_base_path={folder / 'optimised'}", "--log_level=error"]
        with LocalServer(*flags, "--grpc_max_threads=64") as server:
            found = measure(folder, server.address, options.rows, options.rounds)
    write(found, options.out)
    lines = [["way", "rows a second", "of `duoserve score`"]]
    for name, each in found.items():
        ratio = each["times_score"]
        times = f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})"
        lines.append([name, f"{each['rows_per_second']:,.0f}", times])
    print(markdown(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
