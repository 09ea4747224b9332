"""The embedded server answers as the stock server does, in every recorded case.

Each scenario runs against the embedded server and, with `-m stock`, against the stock
container. Where one of them decides to differ, `AMENDED` says what it answers and why.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
from typing import Any

import pytest

from serving.local.testing import LocalServer
from tests.client.fake import wait_until
from tests.conformance import scenario
from tests.stock import StockServer

_OK_ROW = next(step["result"] for step in scenario.load("predict")["steps"] if step.get("case") == "one row")

# (server, scenario, case) -> (what to expect instead, why).
AMENDED: dict[tuple[str, str, str], tuple[Any, str]] = {
    ("embedded", "tensor_content_rest", "open"): (
        {"port_open": False, "exit": 2},
        "the flag with REST is a crash to come: the embedded server refuses it",
    ),
    ("embedded", "batching_no_rows", "no rows"): (
        {
            "code": "INVALID_ARGUMENT",
            "message": "Expected a batch of 1 row or more, as requests are batched. Received: 0 rows",
        },
        "the stock server hangs until the deadline",
    ),
    ("embedded", "batching_no_rows", "still serving"): (_OK_ROW, "the stock server fails an innocent request"),
}
PARSE_ERROR = "JSON Parse error: "
# Messages of the graph's runtime, which is TensorFlow 2.21 in the recordings: only the code counts.
RUNTIME_MESSAGES = {("predict", "bytes that are no image")}


def _embedded(_: pathlib.Path, flags: list[str], rest: bool) -> LocalServer:
    return LocalServer(*flags, "--stock_sigterm", rest=rest, wait=False)


def _stock(root: pathlib.Path, flags: list[str], rest: bool) -> LocalServer:
    return StockServer(*flags, rest=rest, wait=False, mounts=(root,), writable=True)


SERVERS = [
    pytest.param("embedded", _embedded, id="embedded"),
    pytest.param("stock", _stock, id="stock", marks=pytest.mark.stock),
]


def _case(step: dict[str, Any]) -> str:
    case: str = step.get("case", step["step"])
    return case


def _expected(server: str, name: str, step: dict[str, Any]) -> Any:
    amended = AMENDED.get((server, name, _case(step)))
    if amended:
        return amended[0]
    died = {"server_died": step["server_died"]} if "server_died" in step else {}
    return step["result"] | died


def _problems(server: str, name: str, step: dict[str, Any], answer: Any) -> list[str]:
    expected = _expected(server, name, step)
    if (name, step.get("case")) in RUNTIME_MESSAGES:
        expected, answer = {"code": expected["code"]}, {"code": answer["code"]}
    # Of JSON that can't be parsed, the place of the mistake is told in other words.
    if str(expected.get("json", {}).get("error")).startswith(PARSE_ERROR):
        expected, answer = ({**each, "json": each["json"]["error"][: len(PARSE_ERROR)]} for each in (expected, answer))
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
            with subtests.test(case=_case(step)):
                problems = _problems(server, name, step, answer)
                assert not problems, json.dumps({"expected": step["result"], "received": answer}, indent=1)[:4000]
    finally:
        player.close()


@pytest.mark.docker
@pytest.mark.parametrize("kill", [False, True])
def test_a_stopped_stock_server_leaves_no_container(kill: bool, tmp_path: pathlib.Path) -> None:
    server = StockServer("--model_base_path=/none", mounts=(tmp_path,), wait=False)
    listed = ("docker", "ps", "--all", "--quiet", f"--filter=name={server.container}")
    wait_until(lambda: bool(subprocess.check_output(listed)), within=60)
    server.stop(kill=kill)
    assert not subprocess.check_output(listed)


def test_every_amendment_belongs_to_a_recorded_case() -> None:
    recorded = {(name, _case(step)) for name in scenario.names() for step in scenario.load(name)["steps"]}
    assert {(name, case) for _, name, case in AMENDED} <= recorded
    assert recorded >= RUNTIME_MESSAGES
