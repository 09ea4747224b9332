"""docs/walkthrough.md, command by command, on a data set and with models that train in seconds.

    python -m tests.containers.test_walkthrough

runs it as it stands, on the demo's data, and prints the commands with their output, for the page.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving.local.testing import free_port
from tests.containers import bases
from tests.containers.engine import engine
from tests.training.conftest import make_squares, picture

pytestmark = pytest.mark.docker

PAGE = bases.ROOT / "docs/walkthrough.md"


def blocks() -> list[str]:
    """The commands of the page, by section."""
    found = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(found) > 6
    return [str(block) for block in found]


def run(script: str) -> str:
    """The output of a script in bash, which ends at the first command that fails, and its backends with it."""
    script = f"trap 'touch $W/stop' EXIT\n{script}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=bases.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}"
    return done.stdout


def test_the_page(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    make_squares(tmp_path / "data")
    (tmp_path / "data/images/1F600.png").write_bytes(picture((220, 30, 30)))
    name = f"duoserve-walkthrough-{free_port()}"
    port = free_port()
    changes = {
        "W=$PWD/build/walkthrough": f"W={tmp_path}",
        ".venv/bin/python -m export data $W/data\n": "",  # made above, and small
        "--epochs 8": "--epochs 4",
        "docker build ": f"docker build {' '.join((bases.LABEL, *bases.serving_arguments()))} ",
        "docker run ": f"docker run {bases.LABEL} ",
        "--name walkthrough": f"--name {name}",
        " walkthrough\n": f" {name}\n",
        "127.0.0.1:8500": f"127.0.0.1:{port}",
        "bin/duoserve describe": f"bin/duoserve describe --server 127.0.0.1:{port}",
        "bin/duoserve predict": f"bin/duoserve predict --server 127.0.0.1:{port}",
        "bin/duoserve status": f"bin/duoserve status --server 127.0.0.1:{port}",
        # Two small models that learnt for seconds: neither better nor equally fast.
        "[waits]": "[limits]\naccuracy_drop = 1.0\nmedian_ratio = 5.0\np99_ratio = 20.0\nslack_ms = 200.0\n[waits]",
    }
    script = "\n".join(blocks())
    for old, new in changes.items():
        assert old in script, old
        script = script.replace(old, new)
    said = run(script)
    for backend in ("Python  stable", "Node.js stable"):
        line = next(line for line in said.splitlines() if line.startswith(backend))
        assert "version 1" in line and "version 2" in line and "failed" not in line and "Error" not in line, said
    assert "version 2 is stable" in said and said.rstrip().endswith(name) and "exit code 0" in said
    assert (tmp_path / "models/emoji/2").is_dir()


if __name__ == "__main__":
    shutil.rmtree(bases.ROOT / "build/walkthrough", ignore_errors=True)
    with engine():
        there = "docker build ", f"docker build {' '.join(bases.serving_arguments())} "
        shown = (f"cat <<'SHOWN'\n\n{each}SHOWN\n{each.replace(*there)}" for each in blocks())
        sys.stdout.write(run("".join(shown)))
