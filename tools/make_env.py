"""Builds .venv from requirements.txt, pinned by constraints.txt; does nothing when it is current.

    python3 tools/make_env.py           the default TensorFlow
    python3 tools/make_env.py 2.21      another one: .venv-2.21, pinned by constraints-2.21.txt

Runs on any Python 3, so that an old one gets a clear error instead of a syntax error.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SUFFIX = "".join("-" + stack for stack in sys.argv[1:])
CONSTRAINTS = "constraints%s.txt" % SUFFIX
VENV = os.path.join(ROOT, ".venv" + SUFFIX)
STAMP = os.path.join(VENV, "made-from")
INPUTS = [CONSTRAINTS, "client/pyproject.toml", "requirements.txt"]
INPUTS += ["requirements/%s.txt" % name for name in ("tools", "doctor", "export")]
OLDEST, NEWEST = (3, 10), (3, 13)


def main():
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        received = "%s is %d.%d" % ((sys.executable,) + version)
        return "Expected Python 3.10 to 3.13. Received: %s (try: make PYTHON=python3.12 ...)" % received
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        hint = "(Debian, Ubuntu: apt install python3-venv)"
        return "Expected a Python with venv. Received: %s has none %s" % (sys.executable, hint)
    if not os.path.exists(os.path.join(ROOT, CONSTRAINTS)):
        others = sorted(name[12:-4] for name in os.listdir(ROOT) if name.startswith("constraints-"))
        return "Expected STACK=%s, or the default. Received: %s" % (" or ".join(others), SUFFIX[1:])
    wanted = fingerprint()
    if read(STAMP) == wanted:
        return None
    if os.path.isdir(VENV) and not read(STAMP).startswith(wanted.split()[0]):
        shutil.rmtree(VENV)  # of another Python, or incomplete
    print("Building %s (about 2.6 GB, a few minutes the first time)" % os.path.basename(VENV))
    pip = [os.path.join(VENV, "bin", "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    try:
        if not os.path.exists(pip[0]):
            subprocess.check_call([sys.executable, "-m", "venv", VENV])
        subprocess.check_call(
            pip + ["--progress-bar", "on", "-c", CONSTRAINTS, "-r", "requirements.txt", "-e", "./client"], cwd=ROOT
        )
    except subprocess.CalledProcessError as error:
        return "Expected %s to be built. Received: %s (see the lines above; run it again to resume)" % (VENV, error)
    with open(STAMP, "w") as file:
        file.write(wanted)
    return None


def fingerprint():
    digest = hashlib.sha256()
    for name in INPUTS:
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return "%d.%d %s" % (sys.version_info[:2] + (digest.hexdigest(),))


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
