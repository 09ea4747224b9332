"""Time and memory of an import, each in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks._rounds import row, spread

IMPORTS = {
    "floor": "import grpc, numpy; from google.protobuf import descriptor_pool, message",
    "duoserve": "from duoserve import Client; from duoserve._wire import wire_pb2",
    "tensorflow-serving-api": "import tensorflow as tf; from tensorflow_serving.apis import predict_pb2",
}
MEASURE = """
import time
began = time.perf_counter()
{statement}
seconds = time.perf_counter() - began
import json
line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
print(json.dumps([seconds, int(line.split()[1]) / 1024]))
"""


def imports(rounds: int) -> dict[str, Any]:
    """Seconds and RSS in MiB of each import, interleaved."""
    # pip compiles packages; the first, uncounted round does that for a source tree.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "mib": []} for name in IMPORTS}
    for attempt in range(rounds + 1):
        for name, statement in IMPORTS.items():
            code = MEASURE.format(statement=statement)
            command = [sys.executable, "-c", code]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            seconds, mib = json.loads(done.stdout)
            if attempt:  # the first one also warms the file cache
                found[name]["seconds"].append(seconds)
                found[name]["mib"].append(mib)
    rows = []
    for which, unit in (("seconds", "time"), ("mib", "RSS")):
        for peer, aim, inverse in (("floor", 1.5, False), ("tensorflow-serving-api", 10.0, True)):
            pairs = list(zip(found["duoserve"][which], found[peer][which], strict=True))
            values = [other / ours if inverse else ours / other for ours, other in pairs]
            what = f"import, {unit}" + (", how many times less" if inverse else "")
            rows.append(row(what, peer, spread(values), aim, more_is_better=inverse))
    return {"rows": rows, "measured": {name: {k: spread(v) for k, v in by.items()} for name, by in found.items()}}
