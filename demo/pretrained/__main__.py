"""`make demo-pretrained`: two pretrained encoders, from their weights to answers over the network.

Every step is a command, printed before it runs. The next run reuses the results.
"""

import time

from demo.calls import predict_held_out
from demo.pairs import held_out
from demo.steps import DATA, HOME, STORE, command, make_data, play, run, served, title, train

OUT = HOME / "pretrained"
NAME, INT8 = "pretrained", "pretrained-int8"


def steps() -> None:
    begin = time.monotonic()
    make_data()

    title("2. Do both encoders give what is published?")
    run("-m", "demo.pretrained.published")

    title("3. Fit a head on what the frozen encoders give; what does each part bring?")
    run("-m", "demo.pretrained.train", DATA, OUT, unless=OUT / "pretrained.toml")

    title("4. Export it as anyone's own model, and once more with its weights as int8")
    settings = ("--settings", OUT / "pretrained.toml", "--store", STORE)
    command("export", "--name", NAME, *settings, unless=STORE / NAME / "1")
    command("export", "--name", INT8, *settings, "--weights-as", "int8", unless=STORE / INT8 / "1")

    title("5. Serve it, and predict held-out pairs through the client")
    with served(NAME, STORE) as server:
        predict_held_out(server.address, NAME, held_out(DATA))

    title("6. Beside the small model: quality, size, memory, time to load, latency and throughput")
    command("compare", DATA, train("concat"), STORE / NAME / "1", STORE / INT8 / "1", "--out", OUT / "compare")
    print(f"\nEverything took {time.monotonic() - begin:.0f} s.")


if __name__ == "__main__":
    play(steps)
