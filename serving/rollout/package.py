"""The version's folder in the store: complete, unchanged, signed, and with a contract that clients can follow."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from duoserve.artifact.checksums import CHECKSUMS_PATH, verify_checksums
from duoserve.artifact.releases import SERVER_VERSION, ReleaseError, minor_release, too_new
from duoserve.artifact.samples import GOLDEN_PATH, GoldenSample, load_samples
from duoserve.artifact.signing import SIGNATURE_PATH, SigningError, verify_signature
from duoserve.contract import ANSWERS, ONE_CLASS, ContractError, PreprocessingSpec, signatures
from serving.rollout.errors import Refused, SettingsError
from serving.rollout.settings import Signatures

_CARD: Final = "assets.extra/card.json"
_NEEDED: Final = ("saved_model.pb", CHECKSUMS_PATH, GOLDEN_PATH, _CARD, "assets.extra/tf_serving_warmup_requests")


@dataclasses.dataclass(frozen=True, slots=True)
class Contract:
    """The contract of a version with its clients.

    Attributes:
        signatures: Tensors by signature and then by "input NAME" or "output NAME", each as dtype and shape.
        digest: Of the whole preprocessing, tokenizer included.
        optional: The inputs that a caller may leave out.
        answer: The kind of answer, from `duoserve.contract.Answer.record`.
    """

    signatures: Mapping[str, Mapping[str, str]]
    labels: tuple[str, ...]
    digest: str
    optional: tuple[str, ...] = ()
    answer: Mapping[str, Any] = dataclasses.field(default_factory=ONE_CLASS.record)


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """A version's folder that passed, with its golden samples and the contract of its card.

    Attributes:
        bfloat16: How far answers of a server with `--mixed_precision=bfloat16` may be off in addition, from the
            card: of a probability; of a score, in standard deviations. 0 if it was not measured.
    """

    version: int
    path: Path
    samples: tuple[GoldenSample, ...]
    contract: Contract
    bfloat16: float = 0.0


def open_package(store: Path, model: str, version: int, policy: Signatures) -> Package:
    """Checks a version's folder and reads what the check needs.

    Raises:
        Refused: "unknown-version", "missing-files", "checksums", "signature", "card" or "newer".
        SettingsError: A key can't be read, the library for signatures is missing, or the servers' version is invalid.
    """
    path = store / model / str(version)
    if not path.is_dir():
        there = sorted((entry.name for entry in path.parent.glob("*") if entry.name.isdecimal()), key=int)
        received = ", ".join(there) or "no versions"
        raise Refused("unknown-version", f"expected version {version} in {path.parent}. Received: {received}")
    if missing := [name for name in _NEEDED if not (path / name).is_file()]:
        raise Refused("missing-files", f"expected every file of an export in {path}. Missing:", missing)
    if findings := verify_checksums(path):
        raise Refused("checksums", f"expected {path} to be unchanged since its export. Received:", findings)
    _check_signature(path, policy)
    try:
        minor_release(SERVER_VERSION)
    except ReleaseError as error:
        raise SettingsError(f"DUOSERVE_SERVER_VERSION: {error}") from error
    try:
        card = json.loads((path / _CARD).read_bytes())
        if (card["name"], card["version"]) != (model, version):
            received = f"{card['name']} version {card['version']}"
            raise Refused("card", f"expected the card of {model} version {version}. Received: {received}")
        if found := too_new(card["tensorflow"]):
            raise Refused("newer", found)
        samples = load_samples((path / GOLDEN_PATH).read_bytes())
        return Package(version, path, samples, _contract(card), _cost_of_bfloat16(card))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"expected {path} to have a card and samples of this release's format. Received: {error!r}"
        raise Refused("card", what) from error


def contract_of(spec: PreprocessingSpec) -> Contract:
    """The contract of a live version, from its spec."""
    tensors = {
        name: _tensors(*({tensor.name: tensor for tensor in side} for side in (signature.inputs, signature.outputs)))
        for name, signature in signatures(spec).items()
    }
    return Contract(tensors, spec.labels, spec.digest, spec.optional, spec.answer.record())


def incompatible(old: Contract, new: Contract, clients: Literal["follow", "fixed"]) -> list[str]:
    """Why clients of the old version would fail on the new one, one line each. Empty when they would not.

    If they "follow", sizes and tokenizer may change; names, dtypes and the classes that they know may not.
    """
    findings = []
    for name, tensors in old.signatures.items():
        if name not in new.signatures:
            findings.append(f"{name}: expected the signature to stay. Received: none")
            continue
        for tensor, wanted in tensors.items():
            received = new.signatures[name].get(tensor)
            same_dtype = received is not None and received.split()[0] == wanted.split()[0]
            if received != wanted and not (clients == "follow" and same_dtype):
                findings.append(f"{name}, {tensor}: expected {wanted}. Received: {received or 'none'}")
        added = [tensor for tensor in new.signatures[name] if tensor not in tensors and tensor.startswith("input")]
        findings += [f"{name}, {tensor}: expected no further input. Received one" for tensor in added]
    old_kind, new_kind = old.answer["kind"], new.answer["kind"]
    if not set(_gives(old)) <= set(_gives(new)):
        findings.append(f"answer: expected {old_kind} to stay. Received: {new_kind}")
    if lost := [label for label in old.labels if label not in new.labels]:
        findings.append(f"classes: expected {', '.join(lost)} to stay. Received: none")
    if needed := [name for name in old.optional if name not in new.optional]:
        findings.append(f"inputs: expected {' and '.join(needed)} to stay optional. Received: needed always")
    if clients == "fixed":
        if old.labels != new.labels and not lost:
            findings.append("classes: expected the same ones in the same order. Received: others")
        if old.answer != new.answer and not findings:
            findings.append(f"answer: expected {dict(old.answer)} to stay. Received: {dict(new.answer)}")
        if old.digest != new.digest and not findings:
            findings.append("preprocessing: expected the same tokenizer and padding. Received: another")
    return findings


def _contract(card: Mapping[str, Any]) -> Contract:
    content = card["contract"]
    tensors = {
        str(name): _tensors(signature["inputs"], signature["outputs"])
        for name, signature in content["signatures"].items()
    }
    labels = tuple(map(str, content["labels"]))
    if not labels or not tensors:
        raise ContractError("Expected signatures and labels in the card. Received: none")
    optional = tuple(map(str, content.get("optional", ())))
    return Contract(tensors, labels, str(content["digest"]), optional, content.get("answer", ONE_CLASS.record()))


def _tensors(inputs: Mapping[str, object], outputs: Mapping[str, object]) -> dict[str, str]:
    return {f"input {name}": str(tensor) for name, tensor in inputs.items()} | {
        f"output {name}": str(tensor) for name, tensor in outputs.items()
    }


def _cost_of_bfloat16(card: Mapping[str, Any]) -> float:
    difference = float(card.get("graph", {}).get("bfloat16", {}).get("difference", 0.0))
    if not 0 <= difference < math.inf:
        raise ContractError(f"Expected a difference of at least 0 for bfloat16 in the card. Received: {difference}")
    return difference


def _gives(contract: Contract) -> tuple[str, ...]:
    """The parts of an answer that clients read; none for a kind that this release does not know."""
    known = ANSWERS.get(str(contract.answer["kind"]))
    return known.gives if known else ()


def _check_signature(path: Path, policy: Signatures) -> None:
    if not policy.public_keys or not (policy.required or (path / SIGNATURE_PATH).is_file()):
        return
    try:
        findings = verify_signature(path, policy.public_keys)
    except SigningError as error:
        raise SettingsError(str(error)) from error
    if findings:
        raise Refused("signature", f"expected {path} to be signed by a key of the policy. Received:", findings)
