"""One experiment, top to bottom: check, train, compress, export, prove, measure, record."""

import json
import os
import platform
import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from gossamer import crew
from gossamer.errors import DONE, ConfigError, GossamerError, OutOfMemory, Preempted, ResumeError
from gossamer.records import pictures, predictions
from gossamer.records import record as records
from gossamer.records.locks import alone
from gossamer.records.secrets import without_secrets
from gossamer.revision import code_digest, git_state

# keys of a frozen configuration that are no part of what is computed, or stand in the record anyway
TOLD = ("choices", "overrides", "sweep", "rerun", "outputs", "directory")
CHOICES = ("model", "dataset", "task", "compression")
# loggers: of what is no news (no CUDA here, what ONNX's optimiser replaced)
QUIET = ("pytorch_lightning", "torch.utils.cpp_extension", "torch.onnx", "onnxscript", "onnx_ir")
PACKAGES = ("gossamer", "torch", "pytorch-lightning", "transformers", "datasets", "peft", "numpy")


@crew.dismissed()
def run(config: Mapping[str, Any]) -> int:
    """Do what `config`, a resolved plain configuration, says; returns the exit status.

    The run's place is `config["directory"]`, addressed by what it does: a run that is done is not
    repeated (unless rerun=true), one that was cut goes on where it stopped. A process that a
    launcher started as rank 1 or higher does nothing of this: it serves rank 0's run."""
    if crew.enlisted():
        return crew.serve()
    directory = Path(config["directory"])
    path = directory / "record.json"
    if not config["rerun"] and path.exists() and (old := records.read(path))["status"] == "done":
        print(f"already done: {directory} (rerun=true repeats it)")
        _show(old, directory)
        return DONE
    if config["trainer"]["devices"] > 1:  # DDP's word on parameters that are all used, a warning
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from gossamer import plan  # torch from here on

    experiment = plan.checked(config)  # a wrong configuration leaves no directory behind
    busy = ResumeError(f"{directory}: another process works on this run; wait for it")
    # a job of a sweep waits: another sweep may have the same job, or a driver that was killed one
    # that still saves its state
    with alone(directory / "lock", busy, timeout=-1 if config.get("sweep") else 0):
        if (
            not config["rerun"]
            and path.exists()
            and (old := records.read(path))["status"] == "done"
        ):
            print(f"done meanwhile by another process: {directory}")
            return DONE
        if config["rerun"]:
            _clear(directory)
        _describe(config, directory)
        started = _now()
        try:
            record = _work(config, experiment, directory, started)
        except BaseException as error:
            error = _out_of_memory(error, config["dataset"]) or error
            status = "preempted" if isinstance(error, Preempted) else "failed"
            failed = _head(config, directory, started, status) | {"error": _line(error)}
            records.write(path, failed)
            if not isinstance(error, GossamerError):
                (directory / "traceback.txt").write_text(traceback.format_exc())
                raise
            print(f"{status}: {error}", file=sys.stderr)
            if status == "preempted":
                print(f"to go on: gossamer resume {directory}", file=sys.stderr)
            return error.status
        records.write(path, record)
        shutil.rmtree(directory / "state", ignore_errors=True)  # the export holds the result
    _show(record, directory)
    return DONE


def _out_of_memory(error: BaseException, dataset: Mapping[str, Any]) -> OutOfMemory | None:
    """What ran out of memory as one line, whichever of its many exceptions said so, with the keys
    of `dataset` that decide how large a batch is."""
    from torch import OutOfMemoryError

    starved = isinstance(error, MemoryError | OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate" in str(error)
    )
    if not starved:
        return None
    keys = [f"dataset.{key}" for key in ("max_length", "context", "size") if key in dataset]
    return OutOfMemory(
        f"out of memory: {_line(error).rstrip('.')}. Lower "
        f"{' or '.join(['dataset.batch_size', *keys])}, or take a larger device"
    )


def _clear(directory: Path) -> None:
    for leftover in ("state", "export", pictures.FOLDER):
        shutil.rmtree(directory / leftover, ignore_errors=True)
    for leftover in ("record.json", "metrics.jsonl", "traceback.txt", predictions.FILE):
        (directory / leftover).unlink(missing_ok=True)


def resume(directory: Path) -> int:
    """Go on with the run in `directory`; returns the exit status."""
    return run({**read_config(directory), "rerun": False})


def bench(directory: Path, batch_sizes: Sequence[int], device: str) -> int:
    """Measure a finished run's exported model and its twin again, on `device`; the figures join the
    record's (the same workload on the same device is replaced). Returns the exit status."""
    import torch

    from gossamer import plan
    from gossamer.export import bundle
    from gossamer.records.table import SETTING
    from gossamer.result import timed

    record, config = records.read(directory / "record.json"), read_config(directory)
    if record["status"] != "done":
        raise ResumeError(f"{directory}: {record['status']}; gossamer resume {directory} first")
    twin = directory / record["budget"]["twin_export"]
    if not twin.is_dir():
        raise ResumeError(f"{twin}: the dense twin is gone; run the command again with rerun=true")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: this machine has no CUDA device; use --device cpu")
    experiment = plan.checked({**config, "eval": {}})  # its quality stays as it is
    prepare_torch(experiment.training)
    experiment.open()
    workloads = experiment.task.workloads(experiment.data, tuple(batch_sizes))
    export = directory / "export"
    new = timed(
        experiment,
        bundle.load(twin),
        bundle.load(export),
        export,
        workloads,
        bundle.facts(export),
        device,
    )
    setting = ("workload", *SETTING)
    places = [[entry.get(name) for name in setting] for entry in new]
    kept = [e for e in record["speed"] if [e.get(name) for name in setting] not in places]
    record = {**record, "speed": kept + new}
    records.write(directory / "record.json", record)
    _show(record, directory)
    return DONE


def read_config(directory: Path) -> dict[str, Any]:
    """The resolved configuration of a run. Its directory may have been moved since, with the
    outputs that it is in, or be named from another folder than the run was started in."""
    import yaml

    path = Path(directory) / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text())
        # outputs / name / digest / seed: the bases are there, wherever this is called from
        outputs = Path(directory).resolve().parents[len(Path(config["name"]).parts) + 1]
        return {**config, "directory": str(directory), "outputs": str(outputs)}
    except OSError as error:
        raise ResumeError(
            f"{directory}: no run there (no config.yaml); give a run's folder, e.g. one that "
            "`gossamer compare outputs` lists"
        ) from error
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise ResumeError(f"{path}: damaged; start the run again with its command") from error


def _work(
    config: Mapping[str, Any], experiment: Any, directory: Path, started: str
) -> dict[str, Any]:
    from gossamer import execution, plan, stages
    from gossamer.dense import Dense, fingerprint
    from gossamer.interruption import interruption
    from gossamer.journal import Journal
    from gossamer.progress import Display
    from gossamer.records.metrics import Metrics
    from gossamer.result import Finished, finish

    prepare_torch(experiment.training)
    experiment.open()
    budget = plan.budget(experiment, config["twin"])
    outputs = Path(config["outputs"])
    display = Display(experiment.training)
    with interruption, Metrics(directory, config) as metrics, display:
        watch = stages.Watch(
            metrics.log, metrics.rewind, display.begin, display.advance, display.end
        )
        aside = replace(watch, log=lambda metrics, step: None, rewind=lambda step: None)
        paired = experiment
        if config.get("twin_config"):
            paired = plan.checked(config["twin_config"])
            paired.open()
        twin = Dense(paired, budget.twin, outputs)
        if experiment.methods:
            key = fingerprint(experiment) | {
                "configuration": config["digest"],
                "code": code_digest(),
            }
            base = (budget.base,) if budget.base else ()
            model = Dense(experiment, base, outputs).model(aside)
            journal = Journal(directory / "state", key)
            plans = stages.plan_stages(experiment, budget.steps + budget.unspent)
            rows = execution.execute(experiment, model, plans, journal, budget.base, watch)
        else:  # the dense model is the result
            model, rows = twin.model(aside), []
            metrics.rewind(-1)
            for step, logged in twin.history():
                metrics.log(logged, step)
        experiment.finalize(model)
        tokens = getattr(experiment.data, "tokens_per_batch", None)  # of text to be continued
        result = finish(Finished(experiment, model, twin, directory, aside, display.say), rows)
        record = {
            **_head(config, directory, started, "done"),
            "budget": asdict(budget)
            | {
                "twin": list(budget.twin),
                "total": budget.total,
                "pair_equal": budget.pair_equal and paired is experiment,
                "teacher_passes": sum(row["teacher_passes"] for row in rows),
                "tokens": None if tokens is None else budget.steps * tokens,
                "twin_export": os.path.relpath(twin.directory / "export", directory),
            },
            "stages": rows,
            **result,
        }
        metrics.finish(record, directory)
    return record


def prepare_torch(training: Any) -> None:
    """Threads and determinism of this process; quiet libraries."""
    import logging
    import warnings

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    if training.threads:
        torch.set_num_threads(training.threads)
    torch.use_deterministic_algorithms(training.deterministic, warn_only=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in (
        *("does not have many workers", "in eval mode at the start", "LeafSpec"),
        "The `srun` command is available",  # where a cluster's tools are installed
        "`broadcast_buffers` is deprecated",  # since torch 2.15, for a name that 2.11 has not
    ):
        warnings.filterwarnings("ignore", message=f".*{text}")


def _describe(config: Mapping[str, Any], directory: Path) -> None:
    """The run directory explains itself: configuration, overrides, environment, code."""
    import yaml

    from gossamer.measure.speed import device_name

    records.write_text(directory / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
    records.write_text(directory / "overrides.yaml", yaml.safe_dump(config["overrides"]))
    environment = {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": device_name(),
        "cpus": os.cpu_count(),
        "packages": {dist.name: dist.version for dist in metadata.distributions()},
    }
    records.write_text(directory / "environment.json", json.dumps(environment, indent=1))
    state, changes = git_state()
    records.write_text(directory / "git.json", json.dumps(state, indent=1))
    records.write_text(directory / "git.diff", changes)


def _head(config: Mapping[str, Any], directory: Path, started: str, status: str) -> dict[str, Any]:
    """What every record begins with, finished or not."""
    from gossamer.measure.speed import device_name

    return {
        "schema": records.SCHEMA,
        "id": f"{config['digest'][:12]}-s{config['seed']}",
        "name": directory.parent.parent.name,
        "status": status,
        "started": started,
        "finished": _now(),
        "seed": config["seed"],
        "overrides": list(config["overrides"]),
        "config_digest": config["digest"],
        "git": git_state()[0],
        "host": platform.node(),
        "device": device_name(),
        "versions": {name: _version(name) for name in PACKAGES},
        "choices": {key: config["choices"][key] for key in CHOICES},
        "sweep": config.get("sweep"),
        "config": without_secrets({key: value for key, value in config.items() if key not in TOLD}),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _show(record: Mapping[str, Any], directory: Path) -> None:
    from gossamer.records.table import summary

    summary(record, directory)
