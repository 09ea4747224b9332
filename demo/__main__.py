"""`make demo`: data, training, export, serving, prediction, and a new version under load.

Every step is a command of the repository, printed before it runs. The next run reuses the results;
`make clean` removes them.
"""

from __future__ import annotations

import os
import sys
import time

from demo.calls import Caller, predict_held_out
from demo.pairs import held_out
from demo.steps import DATA, NAME, ROOT, RUNS, STORE, command, free_port_near, show, title, train, wait_for_interrupt
from serving.local.testing import LocalServer


def main() -> int:
    os.chdir(ROOT)
    begin = time.monotonic()
    title("1. Data: emoji as images, their names as text, their groups as classes")
    command("data", DATA)  # does nothing if the data is current

    title("2. Train a model on both inputs")
    train("concat")

    title("3. Export version 1: signatures, warmup records, golden samples, and the gate")
    command("export", RUNS / "concat", "--name", NAME, "--store", STORE, unless=STORE / NAME / "1")

    title("4. Serve it: the embedded server, for laptops and tests; production runs the stock container")
    port, rest_port = free_port_near(8500), free_port_near(8501)
    flags = [f"--model_name={NAME}", f"--model_base_path={(ROOT / STORE / NAME)}"]
    show("-m", "serving.local", f"--port={port}", f"--rest_api_port={rest_port}", *flags)
    with LocalServer(f"--port={port}", f"--rest_api_port={rest_port}", *flags) as server:
        print(f"Serving gRPC at {server.address}, REST at {server.rest_url}")

        title("5. Predict held-out rows through the client, which does not need TensorFlow")
        predict_held_out(server.address, NAME, held_out(DATA))

        title("6. A new version, while the client keeps calling")
        train("attention")
        with Caller(server.address, NAME, held_out(DATA)) as caller:
            before = caller.version
            command("export", RUNS / "attention", "--name", NAME, "--store", STORE)
            caller.wait_for_version_after(before)
        print(caller.report())

        print(f"\nEverything took {time.monotonic() - begin:.0f} s.")
        next_steps(server, flags)
        if sys.stdin.isatty():
            wait_for_interrupt()
    return 0


def next_steps(server: LocalServer, flags: list[str]) -> None:
    pair = held_out(DATA)[0]
    running = sys.stdin.isatty()
    print(f"\nWhat to try next{'' if running else ' (first start the server again)'}:")
    if not running:
        show("-m", "serving.local", f"--port={server.port}", f"--rest_api_port={server.rest_port}", *flags)
    print(f"""
  from duoserve import Client

  with Client("{server.address}", model="{NAME}") as client:
      answer = client.predict(image="{pair.image}", text="{pair.text}")
      print(answer.label, answer.probability, answer.version)

  curl -s {server.rest_url}/v1/models/{NAME}:predict -d '{{"signature_name": "serving_bytes",
    "instances": [{{"image_bytes": {{"b64": "'$(base64 -w0 {pair.image})'"}}, "text": "{pair.text}"}}]}}'
""")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nstopped; finished steps are kept, and `make demo` resumes")
    except TimeoutError as error:  # the server did not come up: its log is in the message
        sys.exit(f"error: {error}")
