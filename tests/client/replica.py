"""`python -m tests.client.replica PORT`: serves the spec that standard input gives, until it is killed."""

from __future__ import annotations

import sys
import threading

from duoserve import PreprocessingSpec
from tests.client.fake import FakeServer, Version

spec = PreprocessingSpec.from_json(sys.stdin.readline())
with FakeServer(Version(spec), labels={"stable": spec.version}, port=int(sys.argv[1])) as server:
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    threading.Event().wait()
