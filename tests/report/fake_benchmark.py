"""A benchmark of a moment: counts its runs and writes JSON and a plot, or fails when the folder says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)

if __name__ == "__main__":
    home, out, *rest = sys.argv[1:]
    control = Path(home)
    count = int((control / "count").read_text()) + 1 if (control / "count").exists() else 1
    (control / "count").write_text(str(count))
    folder = Path(out)
    (folder / "fake.png").write_bytes(PNG)
    if (control / "fail").exists():
        sys.exit("Expected a calm machine. Received: noise")
    (folder / "fake.json").write_text(json.dumps({"count": count, "quick": "--quickly" in rest}))
