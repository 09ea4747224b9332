"""Spoken emoji: espeak-ng speaks the first half of each name, the second half is the text, the group is the class.

For "face with tears of joy" the clip is "face with tears" and the text "of joy"; a name of one word is
both. So each input has half of the information, and a model has to use both.

Whole families of emoji are held out, as in the demo with images (`export.dataset.emoji`), with the voices
that speak them. No held-out clip has a voice or an emoji from the training data.
"""

import argparse
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from export.dataset.emoji import (
    TEST_FRACTION,
    Emoji,
    EmojiDataError,
    make_once,
    read_emoji,
    split_families,
    write_manifest,
)
from export.progress import progress_bar

_RECIPE: Final = 1
"""Increase it when the same espeak-ng would give other files."""

_ACCENTS: Final = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp")
_VOICES: Final = {"train": ("m1", "m2", "m3", "m4", "m5", "f1", "f2", "f3"), "test": ("m6", "m7", "f4")}
_SPEEDS: Final = (140, 200)  # words a minute
_PITCHES: Final = (30, 70)
_JOBS: Final = 4


def make_spoken_dataset(folder: Path, *, progress: bool | None = None) -> Path:
    """Makes the clips and `manifest.csv` in `folder`, or does nothing if they are there already.

    The same espeak-ng makes the same files.

    Args:
        folder: Where to put them. If it exists, it has to be empty or made by this function.
        progress: Whether to draw a progress bar; None draws one on a terminal only.

    Raises:
        EmojiDataError: espeak-ng is not on the PATH or fails, `folder` holds something else, or the package
            emoji-data is missing or has unexpected content.
        OSError: The folder can't be written; nothing is left behind.
    """
    command = shutil.which("espeak-ng")
    if command is None:
        raise EmojiDataError(
            "Expected espeak-ng on the PATH (apt-get install espeak-ng, brew install espeak-ng). Received: none"
        )
    said = subprocess.run([command, "--version"], capture_output=True, text=True, check=False).stdout
    emoji = read_emoji()
    splits = split_families(emoji)

    def fill(scratch: Path) -> None:
        (scratch / "audio").mkdir()

        def speak(one: Emoji) -> list[str]:
            heard, text = halves(one.name)
            name = f"audio/{one.file_stem}.wav"
            _speak(command, heard, splits[one], scratch / name)
            return [name, text, one.group, splits[one]]

        with ThreadPoolExecutor(_JOBS) as pool:
            rows = list(progress_bar(pool.map(speak, emoji), "Speaking", progress, unit="clip", total=len(emoji)))
        write_manifest(scratch, ["audio", "text", "label", "split"], rows)

    return make_once(folder, [_RECIPE, said.split("Data at")[0], TEST_FRACTION, emoji], fill)


def halves(name: str) -> tuple[str, str]:
    """The spoken part of a name, and the part that is text."""
    words = name.split()
    middle = (len(words) + 1) // 2
    return " ".join(words[:middle]), " ".join(words[middle:] or words)


def _speak(command: str, text: str, split: str, path: Path) -> None:
    draw = random.Random(path.name)
    voice = f"{draw.choice(_ACCENTS)}+{draw.choice(_VOICES[split])}"
    options = ["-v", voice, "-s", str(draw.randint(*_SPEEDS)), "-p", str(draw.randint(*_PITCHES)), "-w", str(path)]
    done = subprocess.run([command, *options, "--", text], capture_output=True, text=True, check=False)
    if done.returncode or not path.is_file():
        raise EmojiDataError(
            f"Expected espeak-ng to speak {text!r}. Received: {done.stderr.strip() or done.returncode}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.spoken", description="Makes spoken emoji with espeak-ng.")
    parser.add_argument("folder", type=Path, help="where to put audio/ and manifest.csv")
    try:
        folder = make_spoken_dataset(parser.parse_args(arguments).folder)
    except (EmojiDataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Spoken emoji in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
