"""One HTML file: the data, plotly, and what lies in assets/.

The page may not reach the network, nor run anything but what is put here: a content security
policy names each script by its hash. Data is base64, so no text of a record can end its element.
"""

import base64
import gzip
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from gossamer.records import compare
from gossamer.records.record import write_text
from gossamer.records.report.gather import gather

STYLES = ("style.css", "table.css", "print.css")
SCRIPTS = (
    "dom.js",
    "data.js",
    "columns.js",
    "filters.js",
    "state.js",
    "overview.js",
    "table.js",
    "copy.js",
    "plots.js",
    "pareto.js",
    "curves.js",
    "layers.js",
    "parallel.js",
    "stages.js",
    "run.js",
    "diff.js",
    "live.js",
    "main.js",
)


def build(
    paths: Sequence[str | Path], output: str | Path = "report.html", refresh: float | None = None
) -> Path:
    """Write the page over all records below `paths`, whole or not at all; its path. `refresh`: the
    page loads itself again every so many seconds. Raises StageError if the disk refuses."""
    return write(gather(paths, compare.find(paths)), output, refresh)


def write(data: Mapping[str, Any], output: str | Path, refresh: float | None = None) -> Path:
    write_text(output, html({**data, "refresh": refresh}))
    return Path(output)


def html(data: Mapping[str, Any]) -> str:
    """The page with `data` in it."""
    ours = "\n".join(map(asset, SCRIPTS))
    return assembled(asset("page.html"), "\n".join(map(asset, STYLES)), ours, data)


def assembled(page: str, style: str, script: str, data: Mapping[str, Any]) -> str:
    """A page with its style, plotly, our script and the data put where it names them."""
    plotly = _plotly()
    ours = "(() => {\n'use strict';\n" + script + "\n})();\n"
    policy = (
        f"default-src 'none'; script-src {_hash(plotly)} {_hash(ours)}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    packed = base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
    parts = {"POLICY": policy, "STYLE": style, "DATA": packed, "PLOTLY": plotly, "SCRIPT": ours}
    for name, part in parts.items():
        before, after = page.split(f"<!--{name}-->")
        page = before + part + after
    return page


def asset(name: str) -> str:
    """A file of assets/, whole."""
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """plotly's own script, read from the package without importing it (0.3 s)."""
    spec = importlib.util.find_spec("plotly")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    text = (folder / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
