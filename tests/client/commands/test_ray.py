"""The example for Ray Data, run by Ray on this machine in its own environment."""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path

import pyarrow.parquet
import pytest

from tests.client.fake import FakeServer

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".venv-ray/bin/python"


@pytest.mark.ray
def test_ray_answers_every_row_of_a_table(server: FakeServer, jpeg: bytes, tmp_path: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(jpeg)
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "text"])
        writer.writerows([number, tmp_path / "one.jpg", f"text {number}"] for number in range(300))
        writer.writerow([300, tmp_path / "none.jpg", "text"])
    command = [PYTHON, ROOT / "client/examples/batch/ray_data.py", "pairs.csv", "answers"]
    command += ["--server", server.address, "--model", "pairs"]
    subprocess.run([*map(str, command)], check=True, cwd=tmp_path, env={**os.environ, "RAY_AUTH_MODE": "disabled"})
    rows = pyarrow.parquet.read_table(tmp_path / "answers").to_pylist()
    assert sorted(row["id"] for row in rows) == list(range(301))
    assert [row["id"] for row in rows if row["error"]] == [300]
    assert all(row["label"] and row["probability"] > 0 for row in rows if not row["error"])
