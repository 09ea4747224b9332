"""The demo's data and models, served by the embedded server with the labels stable and canary.

stable is the demo's first model, which needs both inputs; canary is another one, which was trained to
answer without either (`--optional image,text`). They have a separate store: the demo's is not changed.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from demo.steps import BUILD, DATA, NAME, ROOT, command, free_port_near, title, train
from serving.local.testing import LocalServer

HOME: Final = BUILD / "playground"
_CONFIG: Final = """\
# Move a label while the playground runs: the server reads this file every second, the page shows it.
model_config_list {{ config {{
  name: "{name}" base_path: "{base}" model_platform: "tensorflow"
  model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
  version_labels {{ key: "stable" value: 1 }}
  version_labels {{ key: "canary" value: 2 }}
}} }}
"""


@contextlib.contextmanager
def serving() -> Iterator[LocalServer]:
    """Makes missing data and models, and serves while the context lasts."""
    os.chdir(ROOT)
    store = HOME / "models"
    title("The demo's data and models; existing ones are not made again")
    command("data", DATA)
    runs = train("concat"), train("attention", "--optional", "image,text", out=HOME / "runs" / "attention")
    for version, run in enumerate(runs, 1):
        command("export", run, "--name", NAME, "--store", store, "--explain", unless=store / NAME / str(version))
    config = HOME / "models.config"
    config.write_text(_CONFIG.format(name=NAME, base=ROOT / store / NAME), encoding="utf-8")
    title("The embedded server, with stable at version 1 and canary at version 2")
    with LocalServer(
        f"--model_config_file={config}",
        "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models",
        f"--port={free_port_near(8500)}",
        f"--rest_api_port={free_port_near(8501)}",
    ) as server:
        title(f"gRPC at {server.address}, REST at {server.rest_url}, labels in {config}")
        yield server
