"""The example in TypeScript answers as the Python client does."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from duoserve import Client, PreprocessingSpec
from export.publish.savedmodel import Published
from serving.local.testing import LocalServer
from tests.client.fake import FakeServer, Version
from tests.client.net import Authority, Replica
from tests.export.conftest import encoded

pytestmark = [pytest.mark.node, pytest.mark.skipif(shutil.which("npm") is None, reason="no Node.js on the PATH")]


def predict(node: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", "dist/predict.js", *arguments], cwd=node, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("text", ["red cat", "犬 🎈"])
@pytest.mark.parametrize("options", [[], ["--label", "stable"]])
def test_it_gives_the_python_clients_answers(
    node: Path, served: LocalServer, tmp_path: Path, text: str, options: list[str]
) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(encoded(64, 48, "PNG"))
    done = predict(node, served.address, "pets", str(image), text, *options)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    with Client(served.address, model="pets", send="bytes") as client:
        expected = client.predict(image, text)
    assert (answer["label"], answer["version"]) == (expected.label, expected.version)
    assert answer["probability"] == pytest.approx(expected.probability)
    assert answer["probabilities"] == pytest.approx(dict(zip(expected.labels, expected.probabilities, strict=True)))


@pytest.mark.parametrize(
    ("name", "image", "said"),
    [
        ("pets", b"no image", "INVALID_ARGUMENT"),
        ("cars", b"", "NOT_FOUND"),
    ],
)
def test_an_error_of_the_server_is_reported(
    node: Path, served: LocalServer, tmp_path: Path, name: str, image: bytes, said: str
) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(image or encoded(8, 8, "PNG"))
    done = predict(node, served.address, name, str(path), "red cat")
    assert done.returncode == 1 and said in done.stderr


def test_a_server_that_is_not_there_costs_the_deadline_at_most(node: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(encoded(8, 8, "PNG"))
    done = predict(node, "127.0.0.1:1", "pets", str(path), "red cat", "--timeout", "2000")
    assert done.returncode == 1 and ("UNAVAILABLE" in done.stderr or "DEADLINE_EXCEEDED" in done.stderr)


def test_an_encrypted_connection(node: Path, published: Published, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    config = tmp_path / "ssl.config"
    config.write_text(
        f"server_cert: {json.dumps(certificate.read_text())}\nserver_key: {json.dumps(key.read_text())}\n"
    )
    image = tmp_path / "image.png"
    image.write_bytes(encoded(64, 48, "PNG"))
    base = f"--model_base_path={published.path.parent}"
    with LocalServer("--model_name=pets", base, f"--ssl_config_file={config}") as server:
        encrypted = predict(node, server.address, "pets", str(image), "red cat", "--ca", str(authority.path))
        plain = predict(node, server.address, "pets", str(image), "red cat", "--timeout", "3000")
    assert encrypted.returncode == 0 and json.loads(encrypted.stdout)["version"] == 1, encrypted.stderr
    assert plain.returncode == 1


def test_calls_go_round_and_a_killed_replica_costs_none(node: Path, spec: PreprocessingSpec, tmp_path: Path) -> None:
    """Two addresses behind one name are asked in turn; after one was killed, its calls go to the other."""
    first, second = Replica(spec), FakeServer(Version(spec))
    program = """
        import { readFileSync } from "node:fs";
        import { Client } from "./dist/client.js";
        const [, , address, image] = process.argv;
        const client = new Client(address, { model: "pairs" });
        const next = async () => (await client.predict(readFileSync(image), "x")).version;
        for (let i = 0; i < 20; i++) await next();
        console.log("asked");
        await new Promise((resume) => process.stdin.once("data", resume));
        for (let i = 0; i < 20; i++) await next();
        console.log("asked again");
        process.exit(0);
    """
    (node / "round.mjs").write_text(program)
    image = tmp_path / "image.png"
    image.write_bytes(encoded(64, 48, "PNG"))
    address = f"ipv4:{first.address},{second.address}"
    with (
        first,
        second,
        subprocess.Popen(
            ["node", "round.mjs", address, str(image)],
            cwd=node,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        assert 5 <= len(second.predictions("serving_bytes")) <= 15
        first.kill()
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "asked again\n"
