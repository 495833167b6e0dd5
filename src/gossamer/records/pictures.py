"""Pictures beside a run's record: `pictures/METHOD-NAME.png`, and what is seen in each.

`pictures/pictures.json` lists them, [{file, caption, method}, …]. It is written last: what it
names is there.
"""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gossamer.errors import ResumeError
from gossamer.records.record import refused, write_text

if TYPE_CHECKING:
    from PIL.Image import Image

    from gossamer.contract import Picture

FOLDER, INDEX = "pictures", "pictures.json"
LARGE = 100_000  # bytes; a picture that takes more is stored in a palette's colours
COLOURS = 256
NAME = re.compile(r"[\w-]+(\.[\w-]+)*")


class Shown(msgspec.Struct, frozen=True):
    """A line of the list."""

    file: str  # in the folder
    caption: str
    method: str


def write(directory: Path, pictures: Sequence[tuple[str, Picture]]) -> None:
    """Put (method, picture) pairs where earlier ones of the run in `directory` were; without any no
    folder is left. Raises ValueError for what is no picture or has another one's name (a bug of the
    method), StageError if the disk refuses."""
    files = {}
    for method, picture in pictures:
        shape, kind = tuple(picture.pixels.shape), str(picture.pixels.dtype)
        name = f"{method}-{picture.name}.png"
        if not NAME.fullmatch(name) or name in files:
            raise ValueError(f"{method}: the picture {picture.name!r} needs a name of its own")
        if kind != "torch.uint8" or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ValueError(
                f"{method}: the picture {picture.name!r} is {kind} {shape}, not uint8 "
                "(height, width, 3)"
            )
        files[name] = Shown(name, picture.caption, method), encoded(picture)
    folder = directory / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    if not files:
        return
    try:
        folder.mkdir(parents=True)
        for name, (_, content) in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise refused(folder, error) from error
    told = [msgspec.to_builtins(shown) for shown, _ in files.values()]
    write_text(folder / INDEX, json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def encoded(picture: Picture) -> bytes:
    """A PNG: of all colours, or of the nearest ones of a palette where that would be large."""
    from PIL import Image as image

    whole = image.fromarray(picture.pixels.cpu().numpy())
    content = _png(whole)
    if len(content) <= LARGE:
        return content
    return _png(whole.quantize(COLOURS, dither=image.Dither.NONE))


def _png(made: Image) -> bytes:
    stream = io.BytesIO()
    made.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def read(directory: Path) -> list[Shown]:
    """The pictures of the run in `directory`; [] if it has none. Raises ResumeError, which names
    the file, for a list that is damaged or names a file elsewhere."""
    path = directory / FOLDER / INDEX
    try:
        found = msgspec.json.decode(path.read_bytes(), type=list[Shown])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ResumeError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    for shown in found:
        if not NAME.fullmatch(shown.file):
            raise ResumeError(f"{path}: names {shown.file!r}, no file of its folder")
    return found
