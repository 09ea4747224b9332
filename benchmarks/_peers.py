"""The two existing clients as peers. min-tfs-client runs in an environment of its own, made here.

It installs top-level packages `tensorflow` and `tensorflow_serving`, and its generated code
needs protobuf 3.20. Run as a script (by that environment's Python), this file is the worker:
it reads one JSON request a line and writes one JSON reply a line.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
import time
from typing import Any

HOME = pathlib.Path(__file__).resolve().parents[1] / "build" / "min-tfs-client"
# The last protobuf that its code works with; compiled wheels of it end with Python 3.10.
NEEDS = ("min-tfs-client==1.0.2", "protobuf==3.20.3", "numpy<2")
PYTHONS = (
    "python3.10",
    *sorted(map(str, pathlib.Path.home().glob(".pyenv/versions/3.10*/bin/python3.10"))),
    sys.executable,
)


class MinTfsClient:
    """A worker process with min-tfs-client. `None` from `start` where it can't be installed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.about: dict[str, str] = self.ask(do="about")

    @classmethod
    def start(cls) -> MinTfsClient | str:
        """The worker, or why there is none."""
        try:
            python = _environment()
            process = subprocess.Popen(
                [python, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            return cls(process)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            return f"min-tfs-client could not be installed or started: {error}"

    def ask(self, **request: Any) -> Any:
        """One request to the worker."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the worker."""
        self._process.kill()
        self._process.communicate()


def _environment() -> str:
    python = HOME / "bin" / "python"
    if python.exists():
        return str(python)
    failure: Exception = OSError("no Python")
    for candidate in PYTHONS:
        if shutil.which(candidate) is None:
            continue
        try:
            for command in (
                [candidate, "-m", "venv", "--clear", str(HOME)],
                [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *NEEDS],
                [str(python), "-c", "import min_tfs_client.tensors"],
            ):
                subprocess.run(command, check=True, capture_output=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            failure = error
            shutil.rmtree(HOME, ignore_errors=True)
            continue
        return str(python)
    raise failure


def _work() -> None:
    """The worker's side; runs where only min-tfs-client is installed."""
    import numpy as np
    from google.protobuf.internal import api_implementation
    from min_tfs_client.tensors import ndarray_to_tensor_proto, tensor_proto_to_ndarray
    from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

    image = np.random.default_rng(0).random((1, 224, 224, 3), np.float32)

    def encode() -> bytes:
        request = PredictRequest()
        request.model_spec.name = "pairs"
        request.inputs["image"].CopyFrom(ndarray_to_tensor_proto(image))
        return bytes(request.SerializeToString())

    reply = b""

    def decode() -> Any:
        return tensor_proto_to_ndarray(PredictResponse.FromString(reply).outputs["probabilities"])

    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "about":
            answer: Any = {"python": sys.version.split()[0], "protobuf": api_implementation.Type()}
        elif request["do"] == "reply":
            reply = bytes.fromhex(request["bytes"])
            answer = None
        else:
            function, answer = {"encode": encode, "decode": decode}[request["do"]], []
            for _ in range(request["count"]):
                began = time.perf_counter()
                function()
                answer.append(time.perf_counter() - began)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _work()
