"""The saved view of a wandb project: Pareto plots, curves, stages, and the runs grouped by seeds.

    python scripts/wandb_workspace.py PROJECT [--entity NAME] [--url URL]

What it shows is taken from what the project's newest finished run was told, so that every axis
exists. Needs a key and the package wandb-workspaces. Without --url it makes a new view; with the
address of one that it made, it brings that one up to date.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gossamer.errors import MISCONFIGURED, ConfigError, GossamerError
from gossamer.records.wandb_content import SEEDS

TITLE = "Gossamer"
COSTS = ("size/checkpoint_bytes", "compute/macs_effective", "size/trainable_parameters")


@dataclass(frozen=True)
class Plot:
    """kind: scatter (x against one y), line (y over the run's steps) or bar (y of each run)."""

    kind: str
    title: str
    y: tuple[str, ...]
    x: str = ""


@dataclass(frozen=True)
class View:
    """Plain data: sections of plots by title, columns of the run table, the key of its groups."""

    sections: Mapping[str, tuple[Plot, ...]]
    columns: tuple[str, ...]
    groups: str


def view(summary: Mapping[str, Any]) -> View:
    """The view of a project whose runs were told `summary`; every plot is of names in it."""
    primary = summary["quality/primary"]
    quality = f"quality/compressed/{primary}"
    timed = [n for n in summary if n.startswith("speed/") and n.endswith("/compressed/p50")]
    costs = [*(name for name in COSTS if name in summary), *sorted(timed)]
    curves = sorted(name for name in summary if name.startswith(("train/", "validation/")))
    stages = sorted(n for n in summary if n.startswith("stages/") and n.endswith(f"/{primary}"))
    sections = {
        f"Pareto: {primary}": tuple(
            Plot("scatter", f"{primary} against {_title(cost)}", (quality,), cost) for cost in costs
        ),
        "Curves": tuple(Plot("line", name, (name,)) for name in curves),
        "Stages": (Plot("bar", f"validation {primary} after each stage", tuple(stages)),)
        if stages
        else (),
    }
    columns = (quality, f"quality/dense/{primary}", *costs, "checks/failed")
    return View({k: v for k, v in sections.items() if v}, columns, SEEDS)


def _title(cost: str) -> str:
    """What a person calls a figure of the summary."""
    if cost.startswith("speed/"):
        return f"latency, {cost.split('/')[1]} (ms)"
    return cost.partition("/")[2].replace("_", " ")


def workspace(view: View, entity: str, project: str) -> Any:
    """`view` in wandb's own words, not saved."""
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports import v2 as wr

    def panel(plot: Plot) -> Any:
        match plot.kind:
            case "scatter":
                x, (y,) = wr.SummaryMetric(plot.x), map(wr.SummaryMetric, plot.y)
                return wr.ScatterPlot(title=plot.title, x=x, y=y, log_x=True)
            case "line":
                return wr.LinePlot(title=plot.title, x="Step", y=list(plot.y))
            case "bar":
                return wr.BarPlot(title=plot.title, metrics=list(plot.y))
        raise ValueError(plot.kind)

    return ws.Workspace(
        entity=entity,
        project=project,
        name=TITLE,
        sections=[
            ws.Section(name=name, panels=[panel(plot) for plot in plots], is_open=True)
            for name, plots in view.sections.items()
        ],
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Config(view.groups)],
            pinned_columns=[f"summary:{name}" for name in view.columns],
        ),
    )


def save(project: str, entity: str | None, url: str | None) -> str:
    """Make the view, or bring the one at `url` up to date; its address. Raises ConfigError."""
    import wandb
    from wandb_workspaces import workspaces as ws

    api = wandb.Api()
    entity = entity or api.default_entity
    try:
        done = {"summary_metrics.status": "done"}
        runs = api.runs(f"{entity}/{project}", done, order="-created_at", per_page=1)
        newest = next(iter(runs), None)
    except (wandb.errors.Error, ValueError) as error:
        raise ConfigError(f"{entity}/{project}: {str(error).splitlines()[0]}") from error
    if newest is None:
        raise ConfigError(
            f"{entity}/{project}: no finished run there; send some with gossamer sync-wandb outputs"
        )
    made = workspace(view(dict(newest.summary)), entity, project)
    try:
        if url:
            saved = ws.Workspace.from_url(url)
            saved.sections, saved.runset_settings = made.sections, made.runset_settings
            made = saved
        return made.save().url
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise ConfigError(f"{url or project}: {str(error).splitlines()[0]}") from error


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The saved view of a wandb project.")
    parser.add_argument("project")
    parser.add_argument("--entity", help="user or team; default: the key's own")
    parser.add_argument("--url", help="a view to bring up to date, instead of a new one")
    args = parser.parse_args(argv)
    try:
        if importlib.util.find_spec("wandb_workspaces") is None:
            raise ConfigError(
                "wandb-workspaces is not installed; type pip install 'gossamer[wandb]'"
            )
        from gossamer.records.wandb import has_key

        if not has_key():
            raise ConfigError("wandb has no key; type wandb login, or set WANDB_API_KEY")
        print(f"to bring it up to date: --url {save(args.project, args.entity, args.url)}")
    except GossamerError as error:
        print(error, file=sys.stderr)
        return MISCONFIGURED
    return 0


if __name__ == "__main__":
    sys.exit(main())
