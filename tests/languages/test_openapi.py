"""`client/openapi.yaml` describes the REST API's replies to valid and invalid requests."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.local.testing import LocalServer
from tests.export.conftest import encoded

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ROOT = Path(__file__).parents[2]


described = schemathesis.openapi.from_path(ROOT / "client/openapi.yaml")


@described.parametrize()
@settings(max_examples=25, deadline=None)
def test_every_reply_is_described(case: schemathesis.Case, served: LocalServer) -> None:
    case.call_and_validate(base_url=served.rest_url, checks=CHECKS)


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
    method = "GET" if body is None else "POST"
    url = served.rest_url + path.format(model="pets", label="stable", version=1)
    response = requests.request(method, url, json=body, timeout=60)
    assert response.status_code == 200, response.text
    described[path][method].validate_response(response)


def test_the_spec_is_a_string_of_json(served: LocalServer) -> None:
    body = {"signature_name": "describe", "instances": [{"key": ""}]}
    (spec,) = requests.post(f"{served.rest_url}/v1/models/pets:predict", json=body, timeout=60).json()["predictions"]
    assert '"labels"' in spec
