"""What wandb is told of a run, as plain data: the same for the logger, while the run works, and for
`gossamer sync-wandb`, afterwards.

Nothing here imports wandb or reads a network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gossamer.errors import ResumeError
from gossamer.records import pictures
from gossamer.records.loggers import figures
from gossamer.records.secrets import without_secrets
from gossamer.records.series import means

TAG = 64  # characters that wandb allows
SEEDS = "seeds_of"  # the config key that the seeds of one configuration share, and nothing else
NAME = re.compile(r"[^\w.-]")  # what an artefact's name may not have

Keep = Literal["none", "export", "stages"]


@dataclass(frozen=True)
class Artefact:
    """Weights that a run began from or left. Without `upload`, wandb gets where the files lie and
    their checksums, and not the files; `texts` are small files that are always sent."""

    name: str
    used: bool  # an input of the run; else its result
    files: Mapping[str, Path] = field(default_factory=dict)  # by their name in the artefact
    upload: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


def identity(
    config: Mapping[str, Any], group: str | None = None, tags: Sequence[str] = ()
) -> dict[str, Any]:
    """The arguments of `wandb.init` that say which run this is, from a frozen configuration."""
    choices, sweep = config["choices"], config.get("sweep")
    methods = [name for name in choices["compression"] if name != "none"]
    title = f"{choices['model']}-{choices['dataset']}-{'+'.join(methods) or 'none'}"
    name = config.get("name") or title
    words = [title] if name in (title, title.replace("/", "_")) else [title, name]
    seeds = " ".join([*words, config["digest"][:12]])
    own = [f"method:{method}" for method in methods or ["none"]]
    own += [f"model:{choices['model']}", f"dataset:{choices['dataset']}"]
    own += [f"pattern:{pattern}" for pattern in _patterns(config.get("compression"))]
    own += [f"sweep:{sweep}"] if sweep else []
    return {
        "id": f"{config['digest'][:12]}-s{config['seed']}",  # the record's
        "name": f"{title} seed {config['seed']}",
        "group": group or sweep or seeds,
        "job_type": "compress" if methods else "train",
        "tags": [tag[:TAG] for tag in dict.fromkeys([*own, *tags])],
        "config": without_secrets(config) | {SEEDS: seeds},
    }


def _patterns(compression: Any) -> Iterator[str]:
    for method in compression.values() if isinstance(compression, Mapping) else ():
        pattern = method.get("pattern") if isinstance(method, Mapping) else None
        if isinstance(pattern, str):
            yield pattern


def frozen(record: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that a record keeps, in the form in which its run had it."""
    named = ("choices", "overrides", "sweep", "seed", "name")
    return {
        **record["config"],
        **{key: record[key] for key in named},
        "digest": record["config_digest"],
    }


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """The ledgers, each under its own name; the quality that left each stage (validation split),
    and what it found out, of figures by layer the mean (each is in the history); what the primary
    metric is. Of a run that was not finished: why."""
    if record["status"] != "done":
        return {"status": record["status"], "error": record["error"]}
    found: dict[str, Any] = dict(figures(record))
    for number, stage in enumerate(record["stages"], 1):
        told = {**means(stage.get("figures", {})), **stage["quality_after"]}
        for metric, value in told.items():
            found[f"stages/{number} {stage['name']}/{metric}"] = value
    quality = record["quality"]
    names = {"quality/primary": quality["primary"], "quality/direction": quality["direction"]}
    return {**found, **names, "status": "done", "error": None}


def layers(record: Mapping[str, Any]) -> tuple[list[str | int], list[list[Any]]]:
    """(columns, rows) of the per-layer ledger; no column if no layer was looked at."""
    found = record.get("layers") or []
    columns: list[str | int] = list(found[0]) if found else []
    return columns, [[_cell(layer[name]) for name in columns] for layer in found]


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list) else value


def drawn(directory: Path) -> list[tuple[Path, str]]:
    """(file, what is seen) of each picture of the run in `directory`. Raises ResumeError for a list
    that is damaged, or that names a file which is not there."""
    found = []
    for one in pictures.read(directory):
        file = directory / pictures.FOLDER / one.file
        if not file.is_file():
            raise ResumeError(f"{file}: not there any more; delete {file.parent} to go on without")
        found.append((file, f"{one.method}: {one.caption}"))
    return found


def lineage(record: Mapping[str, Any], directory: Path, keep: Keep) -> list[Artefact]:
    """From the dense base to the exported model, each with the name of the one before (`from`).

    The base and the twin are inputs. Weights of a stage are sent with keep="stages" while they are
    there, which is until the run's record is written; else a stage is what the record says of it.
    """
    if keep == "none" or record["status"] != "done":
        return []
    found, before = [], None
    twin = directory / record["budget"]["twin_export"]
    base = base_of(twin.parent, record["budget"]["base"])
    if base is not None:
        weights = {file.name: file for file in [base / "weights.pt"] if file.is_file()}
        facts = {"steps": record["budget"]["base"], "from": None}
        found.append(_artefact(f"base-{base.name}", weights, facts, used=True))
        before = found[-1].name
    if twin.is_dir():
        facts = {"steps": sum(record["budget"]["twin"]), "twin": True}
        found.append(_artefact(f"twin-{twin.parent.name}", _below(twin), facts, used=True))
    for number, stage in enumerate(record["stages"]):
        left = directory / "state" / f"stage-{number:02d}.pt"  # the journal's
        sent = {left.name: left} if keep == "stages" and left.is_file() else {}
        name = f"stage-{record['id']}-{number + 1}-{stage['name']}"
        found.append(_artefact(name, sent, {**stage, "from": before}, upload=True))
        before = found[-1].name
    exported, promised = _below(directory / "export"), record["artifacts"]
    facts = {**record["size"], "from": before, "sha256": {a["path"]: a["sha256"] for a in promised}}
    found.append(_artefact(f"model-{record['id']}", exported, facts, upload=True))
    return found


def _artefact(
    name: str,
    files: Mapping[str, Path],
    facts: Mapping[str, Any],
    used: bool = False,
    upload: bool = False,
) -> Artefact:
    # the facts are a file too: an artefact without one would be the same as any other without
    texts = {"facts.json": json.dumps(facts, indent=1, sort_keys=True)}
    return Artefact(NAME.sub("-", name)[:128], used, files, upload, facts, texts)


def _below(folder: Path) -> dict[str, Path]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in files}


def base_of(twin: Path, steps: int) -> Path | None:
    """The dense training of `steps` that the twin's begins with: same fingerprint but for its
    segments. None if the run started from no base, or it is not beside the twin."""
    wanted = _fingerprint(twin)
    if not steps or not wanted:
        return None
    wanted["segments"] = str((steps,))
    if _fingerprint(twin)["segments"] == wanted["segments"]:
        return twin
    folders = sorted(folder for folder in twin.parent.glob("*") if folder.is_dir())
    return next((folder for folder in folders if _fingerprint(folder) == wanted), None)


def _fingerprint(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "fingerprint.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and "segments" in found else {}
