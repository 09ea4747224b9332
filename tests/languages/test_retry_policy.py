"""Callers in other languages get the retry policy of the Python client."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from duoserve import Connection, Retry
from duoserve._transport.channel import service_config

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("copy", ["docs/languages.md", "client/examples/node/src/client.ts"])
def test_each_copy_has_the_defaults(copy: str) -> None:
    written = re.findall(r'retryPolicy"?: {(.*?)}', (ROOT / copy).read_text(encoding="utf-8"), re.DOTALL)
    policy = json.loads(service_config(Connection(), Retry()))["methodConfig"][0]["retryPolicy"]
    assert policy.pop("retryableStatusCodes") == re.findall(r'\["(.*?)"\]', *written)
    found = {name: float(number) for name, number in re.findall(r'(\w+)"?: "?([\d.]+)', *written)}
    assert found == {name: float(str(value).rstrip("s")) for name, value in policy.items()}
