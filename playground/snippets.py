"""The request on the page as Python, curl and grpcurl, to paste into a shell."""

import base64
import dataclasses
import json
import shlex
import urllib.parse
from collections.abc import Sequence
from typing import Any, Final

from duoserve.contract import SERVING_BYTES, OneClass

_NOT_RAW: Final = f"""# This version has no signature {SERVING_BYTES}: the graph can't compute the ids of its tokenizer.
# The Python client prepares its input.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A request of the page.

    Attributes:
        server: The gRPC address, "host:port".
        rest_url: URL of the REST API, without a slash at its end.
        model: Name of the model.
        label: The version label, None for the latest version.
        file: Path of the image or clip, None without one.
        text: The words, "" for none.
        medium: "image" or "audio": the model's input beside text.
        gives: The attributes of the answer: see `duoserve.contract.Answer.gives`.
        raw: Whether the version takes raw files and texts; otherwise only the client can call it.
        ca: PEM file with the certificates to trust, None for a connection without TLS.
    """

    server: str
    rest_url: str
    model: str
    label: str | None
    file: str | None
    text: str
    medium: str
    gives: Sequence[str] = OneClass.gives
    ca: str | None = None
    raw: bool = True


def python(asked: Asked) -> str:
    """A program for the same request with the client."""
    options = [_literal(asked.server), f"model={_literal(asked.model)}"]
    options += [f"label={_literal(asked.label)}"] if asked.label is not None else []
    options += [f"tls=TLS(ca={_literal(asked.ca)})"] if asked.ca is not None else []
    inputs = [f"{asked.medium}={_literal(asked.file)}"] if asked.file is not None else []
    inputs += [f"text={_literal(asked.text)}"] if asked.text else []
    read = [name for name in asked.gives if name not in ("probabilities", "top", "units")]
    names = "Client" if asked.ca is None else "TLS, Client"
    return f"""from duoserve import {names}

with Client({", ".join(options)}) as client:
    answer = client.predict({", ".join(inputs)})
    print({", ".join(f"answer.{name}" for name in (*read, "version"))})
"""


def curl(asked: Asked) -> str:
    """A shell command for the same request by REST: the graph decodes and tokenises."""
    if not asked.raw:
        return _NOT_RAW
    path = f"/v1/models/{urllib.parse.quote(asked.model, safe='')}"
    if asked.label is not None:
        path += f"/labels/{urllib.parse.quote(asked.label, safe='')}"
    return f"""curl -s {shlex.quote(asked.rest_url + path + ":predict")} -d @- <<END
{{"signature_name": "{SERVING_BYTES}",
 "instances": [{{"{asked.medium}_bytes": {{"b64": "{_encoded(asked)}"}},
                "text": {_in_here(asked.text)}}}]}}
END
"""


def grpcurl(asked: Asked, page_url: str) -> str:
    """A shell command for the same request by gRPC. The page serves the descriptors that grpcurl needs."""
    if not asked.raw:
        return _NOT_RAW
    spec = {"name": asked.model, "signature_name": SERVING_BYTES}
    if asked.label is not None:
        spec["version_label"] = asked.label
    text = base64.b64encode(asked.text.encode("utf-8", "replace")).decode("ascii")  # bytes in JSON are base64

    def row(name: str, value: str) -> str:
        head = '"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": 1}]}'
        return f'  "{name}": {{{head}, "string_val": ["{value}"]}}'

    security = "-plaintext" if asked.ca is None else f"-cacert {shlex.quote(asked.ca)}"
    return f"""curl -sO {shlex.quote(page_url + "/serving.protoset")}
grpcurl {security} -protoset serving.protoset -d @ {shlex.quote(asked.server)} \\
  tensorflow.serving.PredictionService/Predict <<END
{{"model_spec": {_in_here(spec)}, "inputs": {{
{row(f"{asked.medium}_bytes", _encoded(asked))},
{row("text", text)}}}}}
END
"""


def _literal(text: str) -> str:
    """A Python string, in double quotes where possible."""
    made = repr(text)
    return made if '"' in text or made[1:-1] != text else f'"{text}"'


def _encoded(asked: Asked) -> str:
    """The file's base64, made by the shell. Through a here-document, since an argument may not exceed 128 KiB."""
    if asked.file is None:
        return ""
    name = shlex.quote(asked.file).replace("\\\n", "\\''\n")  # a here-document would drop the two, quoted or not
    return f"$(base64 < {name} | tr -d '\\n')"


def _in_here(value: Any) -> str:
    r"""JSON that a shell does not change inside `<<END`, where `$`, "`" and `\\` have a meaning."""
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair
        text = json.dumps(value)
    return text.replace("\\\\", "\\u005c").replace("$", "\\u0024").replace("`", "\\u0060")
