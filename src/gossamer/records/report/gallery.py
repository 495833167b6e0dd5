"""The pictures of a run in the page, as they are; what is left out is said, with the reason."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.errors import ResumeError
from gossamer.records import pictures

MOST = 12  # pictures of a run
LARGEST = 300_000  # bytes of a file
TOTAL = 16_000_000  # bytes of all pictures of a page


@dataclass
class Room:
    """What is left of the page's room, in bytes."""

    left: int = TOTAL


def shown(directory: Path, room: Room) -> dict[str, Any]:
    """{"pictures": [{file, caption, method, png (base64), width, height}, …], "unshown": [why, …]}
    of the run in `directory`; {} if it has none."""
    try:
        listed = pictures.read(directory)
    except ResumeError as error:
        return {"pictures": [], "unshown": [str(error)]}
    if not listed:
        return {}
    folder, found, unshown = directory / pictures.FOLDER, [], []
    for one in listed[:MOST]:
        content, size, reason = _content(folder / one.file, room)
        if reason:
            unshown.append(f"{one.file} {reason}")
            continue
        room.left -= len(content)
        png = base64.b64encode(content).decode()
        found.append(
            {
                "file": one.file,
                "caption": one.caption,
                "method": one.method,
                "png": png,
                "width": size[0],
                "height": size[1],
            }
        )
    if len(listed) > MOST:
        unshown.append(
            f"{len(listed) - MOST} more are in {folder}: a page takes {MOST} of each run"
        )
    return {"pictures": found, "unshown": unshown}


def _content(file: Path, room: Room) -> tuple[bytes, tuple[int, int], str]:
    """A picture's bytes and its (width, height), or why it is not in the page."""
    from PIL import Image

    nothing = b"", (0, 0)
    try:
        if (size := file.stat().st_size) > LARGEST:
            return *nothing, f"is left out: {size} bytes, more than {LARGEST}; see {file}"
        if size > room.left:
            return *nothing, f"is left out: the page has {TOTAL} bytes of pictures; see {file}"
        content = file.read_bytes()
        picture = Image.open(io.BytesIO(content), formats=["PNG"])
        picture.verify()  # every chunk's checksum
    except FileNotFoundError:
        return *nothing, f"is not there any more: {file}"
    except Exception:  # of the disk, and what a decoder raises for any bytes
        return *nothing, f"cannot be shown: {file} is damaged"
    return content, picture.size, ""
