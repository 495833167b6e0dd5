"""Dense trainings, each done once: the base that runs start from and the twins they are paired
with.

A dense training is a chain of segments of steps, each with its own learning-rate schedule, from the
model's starting weights. Its place on disk is addressed by everything that its weights depend on,
so runs that need the same one share it, also when they start at the same moment. The base is the
chain (base_steps,); the twin of a run has the run's own stage boundaries, so a longer chain shares
the shorter one that it begins with.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor, nn

from gossamer.execution import execute
from gossamer.export import bundle
from gossamer.interruption import interruption
from gossamer.journal import Journal, load_tensors, read_json, save_tensors, write_json
from gossamer.records import predictions
from gossamer.records.metrics import Metrics
from gossamer.revision import code_digest
from gossamer.stages import Experiment, Watch, allot, training_plan

CODE = (
    *("contract.py", "seeds.py", "fit.py", "ranks.py", "crew.py", "stages.py", "execution.py"),
    *("dense.py", "models", "data", "tasks"),
)
LOOK = 1.0  # seconds between two looks at whether to stop, while another run trains
NO_LOGGER = "gossamer.records.loggers.Null"
CHANGES_NO_WEIGHT = ("base_steps", "steps", "log_every", "checkpoint_every", "threads", "progress")


def digest(content: Any) -> str:
    """SHA-256 of plain data, hexadecimal."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(experiment: Experiment) -> dict[str, str]:
    """What a dense training's weights depend on, besides its segments."""
    training = dataclasses.asdict(experiment.training)
    weighing = {k: v for k, v in training.items() if k not in CHANGES_NO_WEIGHT}
    return {
        "model": digest(experiment.nodes.get("model")),
        "dataset": digest(experiment.nodes.get("dataset")),
        "task": digest(experiment.nodes.get("task")),
        "starting weights": experiment.builder.fingerprint(),
        "data": experiment.data.fingerprint(),
        "seed": str(experiment.seed),
        "training": digest(weighing | {"device": experiment.training.device().type}),
        "code": code_digest(CODE),
    }


class Dense:
    """One dense training: `segments` of steps from the starting weights of `experiment`."""

    def __init__(self, experiment: Experiment, segments: Sequence[int], outputs: Path) -> None:
        self.experiment = dataclasses.replace(experiment, methods={})
        self.segments = tuple(steps for steps in segments if steps)
        self.outputs = outputs
        self.key = {**fingerprint(experiment), "segments": str(self.segments)}
        self.directory = outputs / "base" / digest(self.key)[:16]

    @contextmanager
    def lock(self, told: Watch | None = None) -> Iterator[None]:
        """Held by whoever works in the directory; freed by the system when that process dies."""
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.directory / "lock")
        waited = False
        while not lock.is_locked:
            try:
                lock.acquire(timeout=LOOK if waited else 0)
            except Timeout:
                if told and not waited:
                    told.begin("waiting for another run's dense training", 0)
                waited = True
                interruption.check("while waiting for another run's dense training")
        try:
            yield
        finally:
            lock.release()

    def model(self, watch: Watch) -> nn.Module:
        """The trained model, not finalized; trained now if nobody did so before."""
        model = self.experiment.start()
        if self.segments:
            model.load_state_dict(load_tensors(self._train(watch))["model"])
        return model

    def history(self) -> Iterator[tuple[int, dict[str, float]]]:
        """(step, metrics) of everything that was logged in this training, from its first step."""
        if len(self.segments) > 1:
            yield from Dense(self.experiment, self.segments[:-1], self.outputs).history()
        file = self.directory / "metrics.jsonl"
        for line in file.read_text().splitlines() if file.exists() else []:
            logged = json.loads(line)
            del logged["time"]
            yield logged.pop("step"), logged

    def exported(self, watch: Watch) -> tuple[Path, dict[str, float]]:
        """The folder of the finished dense model and its quality on the test split, read after
        reloading that folder. Both are made once."""
        folder, quality = self.directory / "export", self.directory / "quality.json"
        if self.segments:
            self._train(watch)  # before taking the lock, which is not to be taken twice
        with self.lock(watch):
            if not quality.exists():
                experiment = self.experiment
                model = experiment.finalize(self.model(watch))
                bundle.save(
                    model,
                    folder,
                    builder=experiment.nodes["model"],
                    info=experiment.data.info,
                    tokenizer=experiment.tokenizer,
                    facts=[],
                    fresh=experiment.unprepared(),
                )
                rows: dict[str, Tensor] = {}
                figures = experiment.evaluate(bundle.load(folder), "test", rows)
                if rows:
                    place = self.directory / predictions.FILE
                    predictions.write(place, rows, experiment.data.fingerprint())
                write_json(quality, figures)
            return folder, read_json(quality)

    def zero_shot(self, watch: Watch) -> dict[str, float]:
        """What the exported dense model answers to the experiment's zero-shot tasks, if it has
        any; computed once for all runs that ask the same of it."""
        experiment = self.experiment
        if experiment.zero_shot is None:
            return {}
        folder, _ = self.exported(watch)
        asked = digest(experiment.zero_shot.fingerprint())[:16]
        file = self.directory / f"zero-shot-{asked}.json"
        with self.lock(watch):
            if not file.exists():
                device = experiment.training.device()
                model = bundle.load(folder)
                figures = experiment.zero_shot.evaluate(model, experiment.tokenizer, device)
                write_json(file, figures)
            return read_json(file)

    def _train(self, watch: Watch) -> Path:
        done = self.directory / "weights.pt"
        if done.exists():
            return done
        with self.lock(watch):
            if done.exists():  # another run made it while this one waited
                return done
            *before, steps = self.segments
            experiment = self.experiment
            model = Dense(experiment, before, self.outputs).model(watch)
            stages = training_plan(experiment.builder, experiment.task)
            plan = allot(stages, steps, experiment.training, experiment.seed)
            journal = Journal(self.directory, self.key)
            owner = f"dense {len(self.segments)}" if len(self.segments) > 1 else "dense"
            with Metrics(self.directory, {"logger": {"_target_": NO_LOGGER}}) as metrics:
                own = dataclasses.replace(watch, log=metrics.log, rewind=metrics.rewind)
                rows = execute(experiment, model, {owner: plan}, journal, sum(before), own)
            save_tensors(
                done, {"model": model.state_dict(), "seconds": sum(row["seconds"] for row in rows)}
            )
            for file in self.directory.glob("stage-*.pt"):
                file.unlink()  # what weights.pt holds
        return done
