"""Pictures of finished runs on one sheet, side by side, each below its method, model and data set.

    python scripts/picture_sheet.py docs/images/sparsifiner.png RUN RUN/pictures/NAME.png

A RUN is a run's folder and means the first picture that it has; `--row 3` takes the third, and a
picture is named by its file. A sheet has two columns unless `--columns` says otherwise. docs/images
has sheets made by this.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from gossamer.errors import DONE, MISCONFIGURED, ConfigError, GossamerError
from gossamer.records import pictures
from gossamer.records import record as records

GROUND, INK = (21, 24, 28), (226, 229, 233)  # as the pictures of attention have them
GAP, TITLE = 12, 34  # pixels


@dataclass(frozen=True)
class Titled:
    """A picture and what is written over it."""

    title: str
    image: Image.Image


def find(path: Path, row: int) -> Titled:
    """The picture that `path`, a file or a run's folder, means. Raises ConfigError if there is
    none, ResumeError for a run that is damaged."""
    directory = path if path.is_dir() else path.parent.parent
    record = records.read(directory / "record.json")
    listed = pictures.read(directory)
    chosen = listed[row - 1 : row] if path.is_dir() else [p for p in listed if p.file == path.name]
    if not chosen:
        have = ", ".join(one.file for one in listed) or "none"
        raise ConfigError(f"{path}: no such picture of a run; {directory} has {have}")
    file = directory / pictures.FOLDER / chosen[0].file
    choices = record["choices"]
    title = f"{chosen[0].method}: {choices['model']} on {choices['dataset']}"
    try:
        return Titled(title, Image.open(file).convert("RGB"))
    except (OSError, SyntaxError) as error:  # PIL's word for damaged PNGs
        raise ConfigError(f"{file}: cannot be read ({error})") from error


def sheet(found: Sequence[Titled], columns: int) -> Image.Image:
    """All of them, row by row; a cell is as large as the largest."""
    columns = min(columns, len(found))
    wide = max(one.image.width for one in found) + GAP
    high = max(one.image.height for one in found) + TITLE
    made = Image.new("RGB", (wide * columns + GAP, high * -(-len(found) // columns) + GAP), GROUND)
    draw = ImageDraw.Draw(made)
    for place, one in enumerate(found):
        left, top = GAP + place % columns * wide, place // columns * high
        draw.text((left + GAP, top + 12), one.title, INK, font=ImageFont.load_default(17))
        made.paste(one.image, (left, top + TITLE))
    return made


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("paths", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--row", type=int, default=1, help="which picture of a run's folder")
    parser.add_argument("--columns", type=int, default=2)
    asked = parser.parse_args(words)
    try:
        if min(asked.row, asked.columns) < 1:
            raise ConfigError("--row and --columns: at least 1")
        made = sheet([find(path, asked.row) for path in asked.paths], asked.columns)
    except GossamerError as error:
        print(error, file=sys.stderr)
        return MISCONFIGURED
    palette = made.quantize(256, dither=Image.Dither.NONE)
    palette.save(asked.output, "PNG", optimize=True)
    print(f"{asked.output}: {made.width} x {made.height}, {asked.output.stat().st_size} bytes")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
