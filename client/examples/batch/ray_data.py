"""A table through a server with Ray Data: one client for each worker, on as many machines as the cluster has.

    pip install "ray[data]" ./client
    python client/examples/batch/ray_data.py pairs.csv answers --server localhost:8500 --model emoji

`pairs.csv` has columns `image` (paths that every worker can read) and `text`; `answers` becomes a folder of Parquet
files.
"""

import argparse
from typing import Any

import ray

from duoserve import Client, DuoserveError


class Predictor:
    """Made once in each worker; called with one batch of rows after another."""

    def __init__(self, server: str, model: str) -> None:
        self.client = Client(server, model=model)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        outcomes = self.client.predict_batch(zip(rows["image"], rows["text"], strict=True)).outcomes
        failed = [isinstance(outcome, DuoserveError) for outcome in outcomes]
        return {
            **rows,
            "label": ["" if bad else outcome.label for outcome, bad in zip(outcomes, failed, strict=True)],
            "probability": [0.0 if bad else outcome.probability for outcome, bad in zip(outcomes, failed, strict=True)],
            "error": [str(outcome) if bad else "" for outcome, bad in zip(outcomes, failed, strict=True)],
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("table")
    parser.add_argument("out")
    parser.add_argument("--server", default="localhost:8500")
    parser.add_argument("--model", required=True)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    rows = ray.data.read_csv(options.table)
    answered = rows.map_batches(
        Predictor,
        fn_constructor_args=(options.server, options.model),
        batch_size=256,  # the client splits it into requests of 32 rows, four side by side
        compute=ray.data.ActorPoolStrategy(size=options.workers),
        num_cpus=0.5,  # it mostly waits for the server; with whole processors, two workers leave none to read the table
    )
    answered.write_parquet(options.out)


if __name__ == "__main__":
    main()
