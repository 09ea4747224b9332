"""`python -m demo.speech`: from speech to answers. One half of a name is spoken, the other is text.

Every step is a command of the repository, printed before it runs. The next run reuses the
results; `make clean` removes them. Needs espeak-ng on the PATH.
"""

import sys
import time
from pathlib import Path

from demo.calls import predict_held_out
from demo.pairs import Pair, held_out
from demo.steps import BUILD, command, play, run, served, title
from duoserve import Client
from serving.local.testing import LocalServer

HOME = BUILD / "speech"
DATA, RUN, STORE = HOME / "data", HOME / "run", HOME / "models"
NAME = "spoken"


def steps() -> None:
    begin = time.monotonic()
    title("1. Data: espeak-ng speaks the first half of every emoji's name; the second half is the text")
    run("-m", "demo.spoken", DATA)

    title("2. Train a model on both inputs, which also learns to answer without either")
    command("train", DATA, "--out", RUN, "--optional", "image,text", unless=RUN / "run.json")

    title("3. Export version 1: the gate checks that the graph computes the same spectrograms")
    command("export", RUN, "--name", NAME, "--store", STORE, unless=STORE / NAME / "1")

    title("4. Serve it")
    with served(NAME, STORE, next_steps) as server:
        title("5. Predict held-out rows: emoji and voices that are not in the training data")
        pairs = held_out(DATA)
        predict_held_out(server.address, NAME, pairs)

        title("6. What does each input add?")
        with Client(server.address, model=NAME) as client:
            compare(client, pairs)
        print(f"\nEverything took {time.monotonic() - begin:.0f} s.")


def compare(client: Client, pairs: list[Pair]) -> None:
    """Prints the accuracy with both inputs, and with each alone."""
    largest = max(sum(pair.label == other.label for other in pairs) for pair in pairs)
    print(f"{'always the largest class':<26} {largest / len(pairs):.1%}")
    for what, items in (
        ("heard alone", [(pair.image, None) for pair in pairs]),
        ("read alone", [(None, pair.text) for pair in pairs]),
        ("clip and text", [(pair.image, pair.text) for pair in pairs]),
    ):
        answers = client.predict_batch(items, timeout=60)
        right = sum(answer.label == pair.label for answer, pair in zip(answers, pairs, strict=True))
        print(f"{what:<26} {right / len(pairs):.1%}")


def next_steps(server: LocalServer) -> str:
    row = next((DATA / "audio").glob("*.wav"))
    return f"""
  duoserve predict --server {server.address} --model {NAME} --audio {row} --text "of joy"

  curl -s {server.rest_url}/v1/models/{NAME}:predict -d '{{"signature_name": "serving_bytes",
    "instances": [{{"audio_bytes": {{"b64": "'$(base64 -w0 {row})'"}}, "text": "of joy"}}]}}'

  {Path(sys.executable).name} -m export compare {DATA}      # each input alone and every fusion, trained one by one
"""


if __name__ == "__main__":
    play(steps)
