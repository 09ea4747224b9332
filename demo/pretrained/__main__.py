"""`make demo-pretrained`: two pretrained encoders, from their weights to answers over the network.

Every step is a command, printed before it runs. What a step wrote is reused by the next run.
"""

from __future__ import annotations

import os
import sys
import time

from demo.calls import predict_held_out
from demo.pairs import held_out
from demo.steps import DATA, HOME, ROOT, STORE, command, free_port_near, run, show, title, train
from serving.local.testing import LocalServer

OUT = HOME / "pretrained"
NAME, INT8 = "pretrained", "pretrained-int8"


def main() -> int:
    os.chdir(ROOT)
    begin = time.monotonic()
    title("1. Data: emoji as images, their names as text, their groups as classes")
    command("data", DATA)

    title("2. Do both encoders give what is published?")
    run("-m", "demo.pretrained.published")

    title("3. Fit a head on what the frozen encoders give; what does each part bring?")
    run("-m", "demo.pretrained.train", DATA, OUT, unless=OUT / "pretrained.toml")

    title("4. Export it as anyone's own model, and once more with its weights as int8")
    settings = ("--settings", OUT / "pretrained.toml", "--store", STORE)
    command("export", "--name", NAME, *settings, unless=STORE / NAME / "1")
    command("export", "--name", INT8, *settings, "--weights-as", "int8", unless=STORE / INT8 / "1")

    title("5. Serve it, and predict held-out pairs through the client")
    port = free_port_near(8500)
    flags = [f"--port={port}", f"--model_name={NAME}", f"--model_base_path={ROOT / STORE / NAME}"]
    show("-m", "serving.local", *flags)
    with LocalServer(*flags) as server:
        predict_held_out(server.address, NAME, held_out(DATA))

    title("6. Beside the small model: quality, size, memory, time to load, latency and throughput")
    small = train("concat")
    command("compare", DATA, small, STORE / NAME / "1", STORE / INT8 / "1", "--out", OUT / "compare")
    print(f"\nAll of it took {time.monotonic() - begin:.0f} s.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nstopped; what is made already stays, and the next run resumes there")
    except TimeoutError as error:  # the server did not come up: its log is in the message
        sys.exit(f"error: {error}")
