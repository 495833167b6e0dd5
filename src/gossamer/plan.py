"""Everything that can be known before a weight is allocated: problems, all at once, or what a run
would do. The second pass of `gossamer plan`; the first one (cli/) reads only YAML."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gossamer import crew, targets
from gossamer.contract import Stage
from gossamer.data.info import DataInfo
from gossamer.errors import ConfigError, GossamerError
from gossamer.export.bundle import Bundle
from gossamer.measure import memory, size
from gossamer.stages import Experiment, Training, plan_stages
from gossamer.tasks.zero_shot import ZeroShot


@dataclass(frozen=True)
class Budget:
    """Who trains for how many steps; the rule of docs/records.md.

    A run that starts from the trained base adds `steps` to it; one that starts from initial or
    pretrained weights has both sums in one. Methods that need no step leave them unspent."""

    start: str  # init | pretrained | trained: what the run's first weights are
    base: int  # steps behind the start: 0 unless it is trained
    steps: int  # steps that the run's stages take
    unspent: int  # steps that it was given and does not need
    twin: tuple[int, ...]  # the segments of the dense twin

    @property
    def total(self) -> int:
        return self.base + self.steps

    @property
    def pair_equal(self) -> bool:
        return sum(self.twin) == self.total


def build(config: Mapping[str, Any]) -> Experiment:
    """The experiment that a resolved configuration describes. Raises ConfigError with all
    problems."""
    problems: list[str] = []

    def node(key: str, content: Any) -> Any:
        try:
            return targets.build(content, key)
        except ConfigError as error:  # some lines begin with their key, e.g. model.heads=5
            top = key.partition(".")[0]
            problems.extend(
                line if line.startswith((f"{top}.", f"{top}=")) else f"{key}: {line}"
                for line in error.problems
            )
        except (TypeError, ValueError) as error:
            problems.append(f"{key}: {error}")
        return None

    parts = {key: node(key, config[key]) for key in ("model", "task", "dataset", "trainer")}
    methods = {
        name: node(f"compression.{name}", content)
        for name, content in config["compression"].items()
    }
    exporter = node("export", config["export"]) if config.get("export") else Bundle()
    if problems:
        raise ConfigError(*problems)
    return Experiment(
        builder=parts["model"],
        task=parts["task"],
        data=parts["dataset"],
        training=parts["trainer"],
        seed=config["seed"],
        methods=methods,
        nodes={key: config[key] for key in ("model", "dataset", "task", "compression")},
        zero_shot=_zero_shot(config.get("eval") or {}),
        exporter=exporter,
    )


def _zero_shot(node: Mapping[str, Any]) -> ZeroShot | None:
    """What `eval` asks; None where it asks nothing, or is of a run from before there was one."""
    if not node.get("zero_shot"):
        return None
    return ZeroShot(tuple(node["zero_shot"]), node["folder"], node["limit"], node["batch_size"])


def budget(experiment: Experiment, twin: Any = "continued") -> Budget:
    """The budget rule. A method's `pretrained` start on a model that has no pretrained weights is
    the model's own `init`, and is called that."""
    training = experiment.training
    methods = list(experiment.methods.values())
    start = methods[0].start if methods else experiment.builder.start
    if start == "pretrained":
        start = experiment.builder.start
    base = training.base_steps if start == "trained" else 0
    given = training.steps + (0 if start == "trained" else training.base_steps)
    if methods:
        stages = [s for plan in plan_stages(experiment, given).values() for s in plan if s.share]
        segments = [s.steps for s in stages]
    else:
        segments = [given]
    steps = sum(segments)
    chain = (base, *segments) if twin != "base" else (training.base_steps,)
    return Budget(start, base, steps, given - steps, tuple(n for n in chain if n))


def order_problems(methods: Mapping[str, Any]) -> list[str]:
    """Each method finds what it consumes; later ones keep what earlier ones produced."""
    problems = []
    produced: dict[str, str] = {}  # property -> the method that produced it
    names = list(methods)
    for name, method in methods.items():
        for missing in sorted(method.consumes - produced.keys()):
            problems.append(
                f"compression={names}: {name} needs {missing}, which no method before it produces"
            )
        for lost in sorted(produced.keys() - method.keeps):
            problems.append(
                f"compression={names}: {name} would destroy the {lost} of {produced[lost]}; "
                f"name {name} before {produced[lost]}"
            )
        produced |= {what: name for what in method.produces}
    if len(methods) > 1:
        first = next(iter(methods.values())).start
        problems += [
            f"compression={names}: {name} starts from {method.start} weights, so it comes first"
            for name, method in list(methods.items())[1:]
            if method.start == "init" and first != "init"
        ]
    return problems


def problems(experiment: Experiment) -> list[str]:
    """What would go wrong, one line each. Loads the data; builds the model on the meta device."""
    found = order_problems(experiment.methods)
    try:
        experiment.data.load()
    except GossamerError as error:
        return [*found, *str(error).splitlines()]
    kind = experiment.data.info.kind
    for key, part in (("model", experiment.builder), ("task", experiment.task)):
        if kind not in part.accepts:
            found.append(
                f"{key}: takes {' or '.join(sorted(part.accepts))}, but the data set "
                f"{experiment.data.info.name} is {kind}"
            )
    if experiment.zero_shot is not None:
        found += experiment.zero_shot.problems(kind)
    found += experiment.exporter.requirements(experiment.data.info)
    if found:
        return found
    if hasattr(experiment.task, "requirements"):
        found += experiment.task.requirements(None, experiment.data)
    try:
        found += device_problems(experiment)
        model = experiment.meta()
    except GossamerError as error:
        return [*found, *str(error).splitlines()]
    if hasattr(experiment.builder, "requirements"):
        found += experiment.builder.requirements(model, experiment.data)
    for name, method in experiment.methods.items():
        found += [
            f"compression.{name}: {line}" for line in method.requirements(model, experiment.data)
        ]
    try:
        money = budget(experiment)
    except ConfigError as error:
        return [*found, *error.problems]
    if getattr(model, "stream", False) and experiment.zero_shot is not None:
        found.append(
            "eval.zero_shot: needs the whole model on the device; type eval.zero_shot=[] or "
            "model.stream=false"
        )
    if money.total and getattr(model, "stream", False):
        found.append(
            "model.stream=true: cannot be trained, and this run trains; type model.stream=false, "
            "or a one-shot method and trainer.base_steps=0"
        )
    return found


def device_problems(experiment: Experiment) -> list[str]:
    """What does not fit the devices that stages are to be trained on, one line each."""
    training, data = experiment.training, experiment.data
    devices, strategy = training.devices, training.strategy
    on_gpu = training.device().type == "cuda"
    started = crew.appointed()
    if devices < 1:
        return [f"trainer.devices={devices}: at least 1"]
    each = data.info.batch(data.batch_size) // devices
    if training.accumulate < 1 or training.accumulate > max(1, each):
        return [
            f"trainer.accumulate={training.accumulate}: a device has {each} rows of a batch to "
            f"share out; type trainer.accumulate={min(max(1, training.accumulate), max(1, each))}"
        ]
    if started not in (1, devices):
        return [
            f"trainer.devices={devices}: this process is one of {started} that a launcher "
            f"started (WORLD_SIZE); type trainer.devices={started}"
        ]
    there = torch.cuda.device_count()
    if started == 1 and on_gpu and devices > there:
        return [
            f"trainer.devices={devices}: this machine has {there} CUDA devices; "
            f"type trainer.devices={there}"
        ]
    if devices == 1:
        return (
            ["trainer.strategy=fsdp: shards over several devices; type trainer.devices=2"]
            if strategy == "fsdp"
            else []
        )
    found = []
    batch = data.info.batch(data.batch_size)
    if batch % devices:
        of = (
            f" (the training split is one batch of {batch} rows)" if batch < data.batch_size else ""
        )
        fits = max(devices, batch - batch % devices)
        found.append(
            f"dataset.batch_size={data.batch_size}: is shared by {devices} devices{of}; "
            f"type dataset.batch_size={fits}"
        )
    if strategy == "fsdp" and training.precision == "16-mixed":
        found.append("trainer.precision=16-mixed: not with trainer=fsdp; use bf16-mixed")
    actors = {
        "model": experiment.builder,
        "task": experiment.task,
        **{f"compression.{name}": method for name, method in experiment.methods.items()},
    }
    return found + [
        f"{key}: {line}"
        for key, actor in actors.items()
        if hasattr(actor, "parallel_requirements")
        for line in actor.parallel_requirements(strategy)
    ]


def checked(config: Mapping[str, Any]) -> Experiment:
    """The experiment, its data loaded; raises ConfigError with every problem there is."""
    experiment = build(config)
    found = problems(experiment)
    if found:
        raise ConfigError(*found)
    return experiment


def rehearse(experiment: Experiment) -> tuple[dict[str, int], dict[str, int]]:
    """On the meta device: the modules that every method changes when it prepares, and the trained
    parameters of every trained stage (`method.stage`)."""
    counts, touched = {}, {}
    plans = plan_stages(experiment, budget(experiment).steps)
    dense = _layout(experiment.meta())
    for name, method in experiment.methods.items():
        model = experiment.meta()
        method.prepare(model)
        changed = [path for path, what in dense.items() if _layout(model).get(path) != what]
        touched[name] = len(changed)
        for stage in plans[name]:
            if stage.share:
                model.requires_grad_(True)
                _enter(experiment, method, stage, model)
                counts[f"{name}.{stage.name}"] = sum(
                    p.numel() for p in model.parameters() if p.requires_grad
                )
    return touched, counts


def _layout(model: nn.Module) -> dict[str, Any]:
    """What each module is by itself: its class and its own parameters and buffers."""
    return {
        path: (
            type(module),
            [(n, tuple(t.shape)) for n, t in module.named_parameters(recurse=False)],
            [(n, tuple(t.shape)) for n, t in module.named_buffers(recurse=False)],
        )
        for path, module in model.named_modules()
    }


def _enter(experiment: Experiment, method: Any, stage: Stage, model: nn.Module) -> None:
    for actor in (experiment.builder, experiment.task, method):
        if hasattr(actor, "enter"):
            actor.enter(stage, model)


def plan(config: Mapping[str, Any]) -> str:
    """What the run would do, as text. Raises ConfigError with every problem if there is one."""
    experiment = checked(config)
    money = budget(experiment, config.get("twin", "continued"))
    model = experiment.meta()
    info = experiment.data.info
    rows = [
        ("model", f"{config['choices']['model']}: {size.parameters(model):,} parameters"),
        ("data", _data_line(info)),
        (
            "start",
            f"{money.start} weights" + (f", {money.base} steps behind them" if money.base else ""),
        ),
    ]
    touched, trained = rehearse(experiment)
    rows += [("changes", f"{n} modules by {name}") for name, n in touched.items()]
    for name, stages in plan_stages(experiment, money.steps).items():
        rows += [("stage", _stage_line(name, stage, trained)) for stage in stages]
    segments = " + ".join(map(str, money.twin)) or "0"
    rows.append(("twin", f"dense, {segments} steps" + ("" if money.pair_equal else " (not equal)")))
    if money.unspent:
        rows.append(("unspent", f"{money.unspent} steps: no stage of these methods trains"))
    if (asked := experiment.zero_shot) is not None:
        rows.append(("0-shot", f"{', '.join(asked.names)}, {_examples(asked)}"))
    if experiment.training.devices > 1:
        rows.append(("devices", _devices_line(experiment)))
    rows.append(("memory", _memory_line(model, trained, experiment.training)))
    return "\n".join(f"{name:<9}{text}" for name, text in rows)


def _data_line(info: DataInfo) -> str:
    counts = ", ".join(f"{n:,} {split}" for split, n in info.rows.items())
    return f"{info.name}: {counts}" + (" documents" if info.unit == "documents" else "")


def _stage_line(name: str, stage: Stage, trained: Mapping[str, int]) -> str:
    label = f"{name}.{stage.name}"
    if not stage.share:
        return f"{label}: one-shot"
    return f"{label}: {stage.steps} steps, {trained[label]:,} trained parameters, lr {stage.lr:g}"


def _examples(asked: ZeroShot) -> str:
    many = "all examples" if asked.limit is None else f"the first {asked.limit} examples of each"
    return f"{many}, from {asked.folder or 'the hub'}"


def _devices_line(experiment: Experiment) -> str:
    training, data = experiment.training, experiment.data
    batch = data.info.batch(data.batch_size)
    what = "windows" if data.info.unit == "documents" else "rows"
    each = f"{batch // training.devices} of the {batch} {what} of a batch on each"
    return f"{training.devices} ({training.strategy}), {each}"


def _memory_line(model: nn.Module, trained: Mapping[str, int], training: Training) -> str:
    most = max(trained.values(), default=size.parameters(model) if training.steps else 0)
    # weights as they are stored; gradient and two Adam moments of the trained in fp32
    total = memory.model_bytes(model) + 12 * most
    several = " on each device" if training.devices > 1 else ""
    if training.strategy == "fsdp":
        total //= training.devices
    return (
        f"{total / 2**20:,.0f} MiB{several} for weights, gradients and optimizer (activations come "
        "on top)"
    )
