"""Runs the client's tests against other releases of what it stands on, without TensorFlow.

    python -m tests.client.matrix --python python3.10 oldest
    python -m tests.client.matrix --python python3.13 newest

Makes an environment in a temporary folder, installs the wheel with those releases, and runs
every test that needs no TensorFlow. The exit code is pytest's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RELEASES = {
    # The lower bounds of client/pyproject.toml.
    "oldest": ["grpcio==1.67.0", "protobuf==5.26.1", "numpy==1.26.4", "Pillow==10.3.0", "sentencepiece==0.2.0"],
    "protobuf6": ["protobuf>=6,<7"],
    "newest": ["protobuf>=7,<8"],
}
TOOLS = ["pytest", "pytest-timeout", "hypothesis", "cryptography", "prometheus-client", "opentelemetry-sdk"]
TESTS = (
    "test_batches",
    "test_codec",
    "test_embedding",
    "test_explanation",
    "test_following",
    "test_observing",
    "test_options",
    "test_predicting",
    "test_routing",
    "commands/test_cli",
    "preprocessing/test_sources",
    "transport/test_balancing",
    "transport/test_faults",
    "transport/test_processes",
    "transport/test_retrying",
    "transport/test_tls",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("releases", choices=RELEASES)
    parser.add_argument("--python", default=sys.executable, help="interpreter (default: this one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="duoserve-matrix-") as folder:
        subprocess.run([options.python, "-m", "venv", folder], check=True)
        python = Path(folder) / "bin" / "python"
        install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, *RELEASES[options.releases], *TOOLS, ROOT / "client"], check=True)
        subprocess.run([python, "-m", "pip", "list", "--format=freeze"], check=True)
        tests = [f"tests/client/{name}.py" for name in TESTS]
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "tests/client/matrix.ini", *tests]
        return subprocess.run([*command, f"--rootdir={ROOT}"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
