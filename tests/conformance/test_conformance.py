"""The embedded server answers as the stock server does, in every recorded case.

Each scenario runs against the embedded server and, with `-m stock`, against the stock
container. Where one of them decides to differ, `AMENDED` says what it answers and why.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

from serving.local.testing import LocalServer
from tests.conformance import scenario

IMAGE = os.environ.get("STOCK_IMAGE", "tensorflow/serving:2.20.0")

_AVAILABLE = {
    "model_version_status": [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
}
_UNRECORDED = "recorded while the REST port was not open yet; this is what the server's own test suite expects"
_OK_ROW = next(step["result"] for step in scenario.load("predict")["steps"] if step.get("case") == "one row")

# (server, scenario, case) -> (what to expect instead, why).
AMENDED: dict[tuple[str, str, str], tuple[Any, str]] = {
    ("both", "rest", "status"): ({"status": 200, "json": _AVAILABLE}, _UNRECORDED),
    ("both", "rest", "status of a version"): ({"status": 200, "json": _AVAILABLE}, _UNRECORDED),
    ("both", "rest", "status unknown version"): (
        {"status": 404, "json": {"error": "Could not find version 9 of model pair"}},
        _UNRECORDED,
    ),
    ("both", "rest", "status unknown model"): (
        {"status": 404, "json": {"error": "Could not find any versions of model nope"}},
        _UNRECORDED,
    ),
    ("embedded", "batching_no_rows", "no rows"): (
        {
            "code": "INVALID_ARGUMENT",
            "message": "Expected a batch of 1 row or more, as requests are batched. Received 0 rows",
        },
        "the stock server hangs until the deadline",
    ),
    ("embedded", "batching_no_rows", "still serving"): (_OK_ROW, "the stock server fails an innocent request"),
}
# Messages of the graph's runtime, which is TensorFlow 2.21 in the recordings: only the code counts.
RUNTIME_MESSAGES = {("predict", "bytes that are no image")}


def _embedded(_: pathlib.Path, flags: list[str]) -> LocalServer:
    return LocalServer(*flags, "--stock_sigterm", rest=True, wait=False)


def _stock(root: pathlib.Path, flags: list[str]) -> LocalServer:
    command = ("docker", "run", "--rm", "--init", "--network=host", f"--user={os.getuid()}:{os.getgid()}")
    mount = (f"--volume={root}:{root}", "--entrypoint=tensorflow_model_server", IMAGE)
    return LocalServer(*flags, rest=True, wait=False, timeout=120.0, command=(*command, *mount))


SERVERS = [
    pytest.param("embedded", _embedded, id="embedded"),
    pytest.param("stock", _stock, id="stock", marks=pytest.mark.stock),
]


def _expected(server: str, name: str, step: dict[str, Any]) -> Any:
    for key in (server, "both"):
        if (key, name, step.get("case", "")) in AMENDED:
            return AMENDED[key, name, step["case"]][0]
    return step["result"]


def _problems(server: str, name: str, step: dict[str, Any], answer: Any) -> list[str]:
    expected = _expected(server, name, step)
    if (name, step.get("case")) in RUNTIME_MESSAGES:
        expected, answer = {"code": expected["code"]}, {"code": answer["code"]}
    if step.get("case") == "metrics":
        missing = set(expected["text"].splitlines()) - set(answer["text"].splitlines())
        return [f"missing from the page: {line}" for line in sorted(missing)]
    return scenario.differences(expected, answer)


@pytest.mark.parametrize("name", scenario.names())
@pytest.mark.parametrize(("server", "start"), SERVERS)
def test_answers_as_recorded(
    server: str,
    start: scenario.Server,
    name: str,
    tmp_path: pathlib.Path,
    pair_models: pathlib.Path,
    subtests: pytest.Subtests,
) -> None:
    player = scenario.Player(scenario.load(name), tmp_path, pair_models, start)
    try:
        for step, answer in player.play():
            if "result" not in step:
                continue
            with subtests.test(case=step.get("case", step["step"])):
                problems = _problems(server, name, step, answer)
                assert not problems, json.dumps({"expected": step["result"], "received": answer}, indent=1)[:4000]
    finally:
        player.close()


def test_every_amendment_belongs_to_a_recorded_case() -> None:
    recorded = {(name, step.get("case")) for name in scenario.names() for step in scenario.load(name)["steps"]}
    assert {(name, case) for _, name, case in AMENDED} <= recorded
    assert recorded >= RUNTIME_MESSAGES
