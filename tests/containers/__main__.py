"""`make test-docker`: every test that needs a Docker engine, with an engine that is started if none answers.

python -m tests.containers [--if-possible] [arguments of pytest]

With --if-possible, where no container can run, it prints the reason in one line and ends with 0.
"""

from __future__ import annotations

import subprocess
import sys

from tests.containers import bases
from tests.containers.engine import ROOT, UnavailableError, engine


def main(arguments: list[str]) -> int:
    optional = "--if-possible" in arguments
    arguments = [word for word in arguments if word != "--if-possible"]
    try:
        with engine():
            bases.python_arguments()  # before the tests: without a base image there are none
            where, marks = ["tests/containers"], "docker"
            if bases.real(bases.SERVING):
                where, marks = [*where, "tests/conformance", "tests/rollout"], "docker or stock"
            command = [sys.executable, "-m", "pytest", *where, "-m", marks, "--timeout=1800", *arguments]
            tests = subprocess.Popen(command, cwd=ROOT)
            try:
                return tests.wait()
            except KeyboardInterrupt:  # of the tests too: they remove their containers first
                return tests.wait()
    except UnavailableError as error:
        sys.stderr.write(f"containers not tested: {error}\n")
        return 0 if optional else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
