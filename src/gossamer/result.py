"""From a finished model to the facts of its record: export, reload, prove, evaluate, measure."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import pictures, proof
from gossamer.contract import Check, Fact
from gossamer.dense import Dense
from gossamer.export import bundle
from gossamer.interruption import interruption
from gossamer.measure import compute, runtimes, size
from gossamer.measure.deployed import Files
from gossamer.measure.onnx_runtime import Session
from gossamer.records import predictions
from gossamer.stages import Experiment, Watch, placed
from gossamer.tasks.evaluation import inputs_of

ROWS = 32  # that an export for another runtime is checked on


@dataclass(frozen=True)
class Finished:
    """A model that went through its stages, where its run is, and whom to tell."""

    experiment: Experiment
    model: nn.Module
    twin: Dense
    directory: Path
    watch: Watch
    say: Callable[[str], None]


def finish(run: Finished, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The record's quality, size, compute, speed, layers, checks and artifacts.

    Everything is read off the model that was reloaded from the exported files. Raises TargetError
    before anything is reported if a check fails."""
    experiment, folder = run.experiment, run.directory / "export"
    facts = {name: method.ledger(run.model) for name, method in experiment.methods.items()}
    experiment.exporter.save(
        run.model,
        folder,
        builder=experiment.nodes["model"],
        info=experiment.data.info,
        tokenizer=experiment.tokenizer,
        facts=[fact for mine in facts.values() for fact in mine],
        fresh=experiment.unprepared(),
    )
    loaded = bundle.load(folder)
    facts = {name: method.ledger(loaded) for name, method in experiment.methods.items()}
    checks = _checks(run, loaded, facts) + _written(experiment, loaded, folder)
    artifacts = bundle.digests(folder)
    proof.demand(checks, facts)
    run.say("checked: " + ", ".join(check.name for check in checks))

    interruption.check("before the dense twin was evaluated")
    twin_folder, twin_quality = run.twin.exported(run.watch)
    device = experiment.training.device()
    interruption.check("before the exported model was evaluated")
    run.say("evaluating the exported model on the test split")
    rows_seen: dict[str, Tensor] = {}
    quality = experiment.task.evaluate(
        placed(loaded, device),
        experiment.data,
        "test",
        placed(bundle.load(twin_folder), device),
        device=device,
        rows=rows_seen,
    )
    if rows_seen:
        place = run.directory / predictions.FILE
        predictions.write(place, rows_seen, experiment.data.fingerprint())
    if experiment.zero_shot is not None:
        interruption.check("before the zero-shot tasks")
        run.say("asking the zero-shot tasks: " + ", ".join(experiment.zero_shot.names))
        quality = quality | experiment.zero_shot.evaluate(loaded, experiment.tokenizer, device)
    if pictures.show(experiment, loaded, run.directory):
        run.say(f"drew the exported model: {run.directory / pictures.FOLDER}")
    interruption.check("before the exported model was measured")
    primary, direction = experiment.task.primary(experiment.data.info)
    run.say("measuring the exported model and its dense twin, in turns")
    return {
        "quality": {
            "dense": twin_quality | run.twin.zero_shot(run.watch),
            "compressed": quality,
            "primary": primary,
            "direction": direction,
            "split": "test",
            "predictions": {
                side: os.path.relpath(place, run.directory) if place.exists() else None
                for side, place in (
                    ("dense", run.twin.directory / predictions.FILE),
                    ("compressed", run.directory / predictions.FILE),
                )
            },
        },
        **_ledgers(run, loaded.cpu(), bundle.load(twin_folder), facts, rows),
        "checks": [asdict(check) for check in checks],
        "artifacts": artifacts,
    }


def _checks(run: Finished, loaded: nn.Module, facts: Mapping[str, list[Fact]]) -> list[Check]:
    experiment = run.experiment
    device = experiment.training.device()
    sample = {name: value.to(device) for name, value in experiment.data.sample(4).items()}
    actors = [experiment.builder, experiment.task, *experiment.methods.values()]
    return [
        *proof.reload_checks(
            run.model, loaded, _logits(run, run.model, sample), _logits(run, loaded, sample)
        ),
        *proof.held_checks(run.model, loaded),
        *proof.density_checks(facts),
        *(
            check
            for actor in actors
            if hasattr(actor, "verify")
            for check in actor.verify(loaded, run.model)
        ),
    ]


def _written(experiment: Experiment, loaded: nn.Module, folder: Path) -> list[Check]:
    """Write the exported model for another runtime, if one was chosen, and check the file."""
    exporter = experiment.exporter
    if exporter.file is None or exporter.refused(loaded):
        return []
    inputs = inputs_of(experiment.data.sample(ROWS))
    path = exporter.write(loaded, inputs, folder / exporter.file)
    return exporter.checks(loaded, inputs, path, Session(path))


def timed(
    experiment: Experiment,
    twin: nn.Module,
    loaded: nn.Module,
    folder: Path,
    workloads: Mapping[str, Mapping[str, Any]],
    facts: Sequence[Fact],
    kind: str,
    *,
    alone: bool = True,
) -> list[dict[str, Any]]:
    """The record's `speed` on one kind of device. On the CPU also in the runtime that the model in
    `folder` was written for, or why it was not."""
    exporter = experiment.exporter
    if exporter.file is None or kind != "cpu":
        return runtimes.timed(twin, loaded, workloads, facts, kind, alone=alone)
    if reason := exporter.refused(loaded):
        here = runtimes.timed(twin, loaded, workloads, facts, kind, alone=alone)
        return here + [{"workload": name, "skipped": reason} for name in workloads]
    with TemporaryDirectory() as scratch:
        inputs = inputs_of(experiment.data.sample(2))
        dense = exporter.write(twin.cpu(), inputs, Path(scratch) / exporter.file)
        files = Files(dense, folder / exporter.file)
        return runtimes.timed(twin, loaded, workloads, facts, kind, alone=alone, files=files)


@torch.no_grad()
def _logits(run: Finished, model: nn.Module, sample: Mapping[str, Tensor]) -> Tensor:
    """On the run's device, where a large model takes seconds; the model is left on the CPU."""
    model = placed(model.eval(), run.experiment.training.device())
    logits = run.experiment.task.forward(model, sample)["logits"].cpu()
    model.cpu()
    return logits


def _ledgers(
    run: Finished,
    loaded: nn.Module,
    twin: nn.Module,
    facts: Mapping[str, list[Fact]],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    experiment, device = run.experiment, run.experiment.training.device()
    workloads = experiment.task.workloads(experiment.data)
    first = next(iter(workloads))
    # the last word on an operation is its; a module's weights and its attention's products are two
    merged = {
        (fact.name, fact.dense_macs is None): (name, fact)
        for name, mine in facts.items()
        for fact in mine
    }
    last_facts = [fact for _, fact in merged.values()]
    trained = max((row["trainable_parameters"] for row in rows), default=None)
    return {
        "size": size.size(
            loaded,
            twin,
            last_facts,
            trainable=size.parameters(twin) if trained is None else trained,
            directory=run.directory / "export",
            dense_directory=run.twin.directory / "export",
        ),
        "compute": compute.compute(
            placed(twin, device), placed(loaded, device), workloads[first], first, last_facts
        ),
        "speed": [
            entry
            for kind in dict.fromkeys(["cpu", device.type])
            for entry in timed(
                run.experiment,
                twin,
                loaded,
                run.directory / "export",
                workloads,
                last_facts,
                kind,
                alone=kind == device.type,
            )
        ],
        "layers": [
            {
                **asdict(fact),
                "shape": list(fact.shape),
                "operands": fact.operands and list(fact.operands),
                "method": name,
            }
            for name, fact in merged.values()
        ],
    }
