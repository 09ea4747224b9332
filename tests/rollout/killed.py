"""The rollout's command line, ended by SIGKILL at one moment: WHEN:STEP in DUOSERVE_TEST_KILL.

before and after are about the edit of that step, during is about its check.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from serving.rollout import cli, command, rollout


def die_at(when: str, step: str) -> None:
    write, check = command.Command.write, rollout.run_check

    def dying_write(self: command.Command, edit: Any, **options: Any) -> None:
        if edit.step == step and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, edit, **options)
        if edit.step == step and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_check(asked: command.Command, name: str, package: Any) -> None:
        if name == step and when == "during":
            os.kill(os.getpid(), signal.SIGKILL)
        check(asked, name, package)

    command.Command.write = dying_write  # type: ignore[method-assign]
    rollout.run_check = dying_check


if __name__ == "__main__":
    if moment := os.environ.get("DUOSERVE_TEST_KILL"):
        die_at(*moment.split(":"))
    sys.exit(cli.main())
