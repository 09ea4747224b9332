"""`client/openapi.yaml` describes the REST API's replies to valid and invalid requests."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from serving.local.testing import LocalServer
from tests.export.conftest import encoded

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
DESCRIPTION = Path(__file__).parents[2] / "client/openapi.yaml"


def test_every_reply_is_described(served: LocalServer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", DESCRIPTION, "--url", served.rest_url]
    options = ["--checks", CHECKS, "--max-examples", "25", "--phases", "examples,coverage,fuzzing", "--no-color"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


IMAGE = base64.b64encode(encoded(20, 20, "PNG")).decode()
BYTES = {"signature_name": "serving_bytes", "instances": [{"image_bytes": {"b64": IMAGE}, "text": "red cat"}]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/{model}:predict", BYTES),
        ("/v1/models/{model}/labels/{label}:predict", BYTES),
        ("/v1/models/{model}/versions/{version}:predict", BYTES),
        ("/v1/models/{model}:predict", {"signature_name": "describe", "instances": [{"key": ""}]}),
        ("/v1/models/{model}", None),
        ("/v1/models/{model}/metadata", None),
    ],
)
def test_the_model_that_is_there_answers_as_described(served: LocalServer, path: str, body: object) -> None:
    import schemathesis  # takes seconds, and only here

    method = "GET" if body is None else "POST"
    url = served.rest_url + path.format(model="pets", label="stable", version=1)
    response = requests.request(method, url, json=body, timeout=60)
    assert response.status_code == 200, response.text
    schemathesis.openapi.from_path(DESCRIPTION)[path][method].validate_response(response)


def test_the_spec_is_a_string_of_json(served: LocalServer) -> None:
    body = {"signature_name": "describe", "instances": [{"key": ""}]}
    (spec,) = requests.post(f"{served.rest_url}/v1/models/pets:predict", json=body, timeout=60).json()["predictions"]
    assert '"labels"' in spec
