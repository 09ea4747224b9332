"""`python -m serving.local`: the embedded server, with the flags of `tensorflow_model_server`."""

import contextlib
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Sequence

from serving.local.flags import parse

START_FAILED = 255


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until a signal ends it; returns the exit code."""
    flags = parse(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    form = "%(asctime)s %(levelname).1s %(name)s: %(message)s"
    logging.basicConfig(level=flags.log_level.upper(), format=form, stream=sys.stderr)
    _raise_file_limit()
    # SIGTERM is caught before TensorFlow is imported, which takes seconds.
    stop = threading.Event()

    def on_signal(*_: object) -> None:
        if not stop.is_set():
            stop.set()

    for number in (signal.SIGINT,) if flags.stock_sigterm else (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)

    # TensorFlow is imported only now: --help answers at once.
    import tensorflow as tf

    if flags.version:
        print(f"TensorFlow ModelServer: embedded, of Duoserve\nTensorFlow Library: {tf.__version__}")
        return 0
    from serving.local.errors import ServingError
    from serving.local.server import Server

    log = logging.getLogger("serving.local")
    try:
        server = Server(flags, stop)
        server.start()
    except ServingError as error:
        log.error("Failed to start server. Error: %s", error)
        return START_FAILED
    if not stop.is_set():
        log.info("Running gRPC ModelServer at %s:%d ...", flags.host, flags.port)
    # Not in this thread: the signal's handler runs here, and `set` needs a lock that `wait` holds for a moment.
    waiting = threading.Thread(target=stop.wait, daemon=True)
    waiting.start()
    waiting.join()
    server.stop(flags.drain_seconds)
    return 0


def _raise_file_limit() -> None:
    """Allows as many open files, and so connections, as the system permits: the usual limit is 1,024."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    code = main()
    # Without the interpreter's shutdown: it waits for threads, and a model may block one indefinitely.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
