"""The wheel as it is installed: small, typed, and without TensorFlow; and beside it in one process."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.client.net import ROOT

LOADED = """
import sys
from duoserve import AsyncClient, Client
heavy = sorted({name.split(".")[0] for name in sys.modules} & {%s})
assert not heavy, heavy
"""


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=280, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_importing_the_client_loads_neither_tensorflow_nor_what_is_not_needed_yet() -> None:
    names = "'tensorflow', 'tensorflow_serving', 'keras', 'PIL', 'sentencepiece', 'prometheus_client', 'opentelemetry'"
    run(sys.executable, "-W", "error", "-c", LOADED % names)


@pytest.mark.parametrize("first", ["duoserve", "tensorflow_serving"])
def test_it_lives_beside_the_official_package_in_one_process(first: str) -> None:
    ours = "from duoserve._wire import wire_pb2 as ours, messages"
    theirs = "from tensorflow_serving.apis import predict_pb2, get_model_status_pb2, get_model_metadata_pb2"
    imports = f"{ours}\n{theirs}" if first == "duoserve" else f"{theirs}\n{ours}"
    code = f"""
import numpy as np
{imports}
data = messages.encode_predict("pairs", "stable", "serving_default", {{"x": np.arange(3, dtype=np.int32)}})
request = predict_pb2.PredictRequest.FromString(data)
assert request.model_spec.version_label == "stable" and ours.PredictRequest.FromString(data).inputs["x"].dtype == 3
reply = predict_pb2.PredictResponse()
reply.model_spec.name, reply.model_spec.version.value = "pairs", 4
reply.outputs["p"].dtype = 1
reply.outputs["p"].float_val.append(0.5)
assert messages.decode_predict(reply.SerializeToString()).version == 4
status = get_model_status_pb2.GetModelStatusResponse()
status.model_version_status.add(version=2, state=50).status.error_message = "why"
assert messages.decode_status(status.SerializeToString())[0].error == "why"
metadata = get_model_metadata_pb2.GetModelMetadataResponse()
signatures = get_model_metadata_pb2.SignatureDefMap()
signatures.signature_def["s"].inputs["x"].dtype = 4
metadata.metadata["signature_def"].Pack(signatures)
assert messages.decode_metadata(metadata.SerializeToString())[0]["s"].inputs[0].dtype == "uint8"
"""
    run(sys.executable, "-c", code)


@pytest.mark.slow
def test_the_wheel_works_in_a_fresh_environment(tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT / "client")
    (wheel,) = tmp_path.glob("duoserve-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "duoserve/py.typed" in names and "duoserve/_wire/wire_pb2.pyi" in names
    assert all(name.startswith("duoserve") for name in names), "it installs no package but its own"
    assert wheel.stat().st_size < 200_000
    run(sys.executable, "-m", "venv", tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel)
    # From an empty folder: the repository must not be found by accident.
    code = LOADED % "'tensorflow'" + "import duoserve\nassert 'site-packages' in duoserve.__file__, duoserve.__file__\n"
    run(python, "-W", "error", "-c", code, cwd=tmp_path)
    spare = run(python, "-m", "pip", "list", "--format=freeze", cwd=tmp_path)
    assert "tensorflow" not in spare
    assert "describe" in run(tmp_path / "env" / "bin" / "duoserve", "--help", cwd=tmp_path)
