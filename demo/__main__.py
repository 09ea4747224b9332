"""`make demo`: data, training, export, serving, prediction, and a new version under load.

Every step is a command of the repository, printed before it runs. The next run reuses the results;
`make clean` removes them.
"""

import time

from demo.calls import Caller, predict_held_out
from demo.pairs import held_out
from demo.steps import DATA, NAME, RUNS, STORE, command, make_data, play, served, title, train
from serving.local.testing import LocalServer


def steps() -> None:
    begin = time.monotonic()
    make_data()

    title("2. Train a model on both inputs")
    train("concat")

    title("3. Export version 1: signatures, warmup records, golden samples, and the gate")
    command("export", RUNS / "concat", "--name", NAME, "--store", STORE, unless=STORE / NAME / "1")

    title("4. Serve it: the embedded server, for laptops and tests; production runs the stock container")
    with served(NAME, STORE, next_steps) as server:
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


def next_steps(server: LocalServer) -> str:
    pair = held_out(DATA)[0]
    return f"""
  from duoserve import Client

  with Client("{server.address}", model="{NAME}") as client:
      answer = client.predict(image="{pair.image}", text="{pair.text}")
      print(answer.label, answer.probability, answer.version)

  curl -s {server.rest_url}/v1/models/{NAME}:predict -d '{{"signature_name": "serving_bytes",
    "instances": [{{"image_bytes": {{"b64": "'$(base64 -w0 {pair.image})'"}}, "text": "{pair.text}"}}]}}'
"""


if __name__ == "__main__":
    play(steps)
