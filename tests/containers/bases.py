"""The images that the Dockerfiles start from: the real ones, or stand-ins where no registry is reached.

A stand-in has another name, so that an engine never holds a false `tensorflow/serving`. It is built
once in an engine: Debian with its Python for `python:3.12-slim`; and for the stock server, on top of
this repository's own image `export`, the embedded server under the name of the stock binary.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from duoserve.artifact.releases import STOCK_VERSION
from tests.containers.engine import ROOT, UnavailableError

SERVING = f"tensorflow/serving:{STOCK_VERSION}"
PYTHON = "python:3.12-slim"
STANDIN = "duoserve-standin"
LABEL = "--label=duoserve.test=1"
"""On everything that the tests build or start."""
_SUITE = "bookworm"


def docker(*arguments: str, timeout: float = 900, program: str = "docker", **environment: str) -> str:
    """What a docker command printed; its messages fail the test."""
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=timeout, cwd=ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout[-6000:]}{done.stderr[-6000:]}"
    return done.stdout.strip()


def has(image: str) -> bool:
    """Whether the engine holds an image."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0


@functools.cache
def real(image: str) -> bool:
    """Whether an image of a registry is here, after a pull if need be."""
    if has(image):
        return True
    return subprocess.run(["docker", "pull", "--quiet", image], capture_output=True, timeout=900).returncode == 0


def build(file: str, tag: str, *arguments: str, context: Path = ROOT) -> str:
    """Builds an image of this repository, or of a copy of it; returns its tag."""
    where = ["-f", str(context / file), "-t", tag, LABEL]
    docker("build", *where, *_proxies(), *arguments, str(context), **builder())
    return tag


@functools.cache
def python_arguments() -> tuple[str, ...]:
    """Build arguments of Dockerfile.tools: none, or those that name the stand-in."""
    if real(PYTHON):
        return ()
    name, _, version = PYTHON.partition(":")
    tag = f"{STANDIN}/{name}:{version}"
    if not has(tag):
        _bootstrap(tag)
    return (f"--build-arg=PYTHON_IMAGE={STANDIN}/{name}",)


@functools.cache
def tools(target: str) -> str:
    """The image of Dockerfile.tools for a target, "tools" or "export"."""
    return build("Dockerfile.tools", f"duoserve-{target}:test", f"--target={target}", *python_arguments())


@functools.cache
def serving_arguments() -> tuple[str, ...]:
    """Build arguments of Dockerfile.serving: none, or those that name the stand-in."""
    if real(SERVING):
        return ()
    name, _, version = SERVING.partition(":")
    folder = Path(__file__).with_name("standin")
    export = f"--build-arg=EXPORT={tools('export')}"
    docker("build", "-t", f"{STANDIN}/{name}:{version}", LABEL, export, str(folder), **builder())
    return (f"--build-arg=SERVING_IMAGE={STANDIN}/{name}",)


@functools.cache
def serving() -> str:
    """The image of Dockerfile.serving."""
    return build("Dockerfile.serving", "duoserve-serving:test", *serving_arguments())


@functools.cache
def builder() -> dict[str, str]:
    """The first command line on the PATH with BuildKit: built in up to version 20, as the plugin buildx since 23.

    The old builder does too, but is slow with large layers.
    """
    for folder in os.get_exec_path():
        program = f"{folder}/docker"
        if os.access(program, os.X_OK):
            version = docker("version", "--format={{.Client.Version}}", program=program)
            plugin = subprocess.run([program, "buildx", "version"], capture_output=True).returncode == 0
            if plugin or int(version.partition(".")[0]) < 23:
                return {"program": program, "DOCKER_BUILDKIT": "1"}
    return {}


def _proxies() -> list[str]:
    return [f"--build-arg={name}" for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "no_proxy")]


def _bootstrap(tag: str) -> None:
    """Debian and its Python as an image, with this machine's certificates and package index."""
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise UnavailableError(
            f"{PYTHON} can't be pulled, and its stand-in needs debootstrap (apt-get install it) and root"
        )
    with tempfile.TemporaryDirectory(prefix="standin-") as folder:
        root = Path(folder) / "root"
        command = ["debootstrap", "--variant=minbase", "--include=ca-certificates,python3,python3-pip", _suite()]
        done = subprocess.run([*command, str(root)], capture_output=True, text=True, timeout=900)
        if done.returncode != 0:
            last = (done.stdout + done.stderr).strip().rpartition("\n")[2]
            raise UnavailableError(f"{PYTHON} can't be pulled, and debootstrap fails: {last}")
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            mark.unlink()  # the real image's Python is pip's
        certificates = Path("/etc/ssl/certs/ca-certificates.crt")
        if certificates.exists():
            shutil.copy(certificates, root / "etc/ssl/certs")
        (root / "etc/pip.conf").write_text("[global]\n" + "".join(f"{line}\n" for line in _index()))
        skipped = ["--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*", "--exclude=./dev/*"]
        with subprocess.Popen(["tar", "-C", str(root), *skipped, "-c", "."], stdout=subprocess.PIPE) as archive:
            subprocess.run(["docker", "import", "-", tag], stdin=archive.stdout, check=True, capture_output=True)
        assert archive.returncode == 0


def _suite() -> str:
    """Debian's release here, else one whose Python is among ours: 3.10 to 3.13."""
    release = platform.freedesktop_os_release()
    return release.get("VERSION_CODENAME", _SUITE) if release.get("ID") == "debian" else _SUITE


def _index() -> list[str]:
    """Lines of pip's configuration here that name an index of packages on the network."""
    listed = (
        subprocess.run(["pip", "config", "list"], capture_output=True, text=True).stdout if shutil.which("pip") else ""
    )
    found = re.findall(r"^\S+?\.((?:extra-)?index-url|trusted-host|proxy)='(.*)'$", listed, re.MULTILINE)
    lines = {key: [word for word in value.split() if "file:" not in word] for key, value in found}
    return [f"{key} = {' '.join(words)}" for key, words in lines.items() if words]
