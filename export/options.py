"""Building blocks of the commands' arguments."""

import argparse
import re
from collections.abc import Callable
from typing import Any

from duoserve.arguments import count
from duoserve.artifact.releases import ReleaseError, minor_release
from duoserve.contract import ANSWERS, IMAGE, TEXT


def add_command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], summary: str
) -> argparse.ArgumentParser:
    """A command that calls `function`; its exit code is the program's. It may call `options.wrong_usage(message)`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + "."
    )
    parser.set_defaults(command=function, wrong_usage=parser.error)
    return parser


def add_answer(parser: argparse.ArgumentParser) -> None:
    """The option for the kind of answer in a manifest."""
    parser.add_argument(
        "--answer",
        choices=ANSWERS,
        help="the kind of answer (default: scores without a column label, tags with a | in a label, else one class)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option that every command has."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON, for scripts")


def colour(text: str) -> tuple[int, int, int]:
    """Red, green and blue from 0 to 255, separated by commas."""
    found = [count(part) for part in text.split(",")]
    if len(found) != 3 or max(found) > 255:
        raise argparse.ArgumentTypeError(f"expected red,green,blue from 0 to 255, received {text!r}")
    return found[0], found[1], found[2]


def names(text: str) -> tuple[str, ...]:
    """Names of inputs, separated by commas."""
    found = tuple(text.split(","))
    if unknown := [name for name in found if name not in (IMAGE, TEXT)]:
        raise argparse.ArgumentTypeError(f"expected {IMAGE}, {TEXT} or {IMAGE},{TEXT}, received {unknown[0]!r}")
    return found


def release(text: str) -> str:
    """A release of TensorFlow."""
    try:
        minor_release(text)
    except ReleaseError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def duration(text: str) -> float:
    """Seconds: 90s, 10m, 1.5h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 10m or 1.5h, received {text!r}")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]
