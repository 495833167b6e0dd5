"""A run that is watched: what enter, training and finalize leave alone."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from gossamer import fit
from gossamer.stages import Experiment
from tests.contract.table import copied, draws, logits, same


@dataclass
class Seen:
    """What a watched run did."""

    entered: int = 0  # calls of enter
    changes: list[str] = field(default_factory=list)  # by a second enter of the same stage
    frozen: int = 0  # parameters that did not require a gradient, over all trained stages
    thawed: list[str] = field(default_factory=list)  # … and were other bits afterwards
    functions: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    # logits before and after each finalize


def watch(made: Experiment, monkeypatch: Any) -> Seen:
    """Watch the verbs of an experiment's methods and every trained stage."""
    seen = Seen()
    for name, method in made.methods.items():
        monkeypatch.setattr(method, "enter", _entering(method.enter, name, seen))
        monkeypatch.setattr(method, "finalize", _finalizing(method.finalize, made, seen))
    monkeypatch.setattr(fit, "train", _training(fit.train, seen))
    return seen


def _switches(model: nn.Module) -> dict[str, Any]:
    return {
        **{f"{name} trains": p.requires_grad for name, p in model.named_parameters()},
        **{f"{name} mode": module.training for name, module in model.named_modules()},
        **{
            f"{name} hooks": (len(m._forward_hooks), len(m._forward_pre_hooks))
            for name, m in model.named_modules()
        },
    }


def _entering(real: Any, name: str, seen: Seen) -> Any:
    def enter(stage, model):
        before, numbers = copied(model), list(draws())
        real(stage, model)
        switches = _switches(model)
        real(stage, model)
        seen.entered += 1
        label = f"{name}.{stage.name}"
        again = _switches(model)
        seen.changes += [f"{label}: {key}" for key in again if again[key] != switches.get(key)]
        if not same(before, model.state_dict()):
            seen.changes.append(f"{label}: the weights")
        if not all(map(torch.equal, numbers, draws())):
            seen.changes.append(f"{label}: a number was drawn")

    return enter


def _finalizing(real: Any, made: Experiment, seen: Seen) -> Any:
    def finalize(model):
        before = logits(made, model)
        real(model)
        seen.functions.append((before, logits(made, model)))

    return finalize


def _training(real: Any, seen: Seen) -> Any:
    def train(one: fit.Fit) -> fit.Trained:
        frozen = {n: p for n, p in one.model.named_parameters() if not p.requires_grad}
        before = {name: parameter.clone() for name, parameter in frozen.items()}
        trained = real(one)
        after = dict(one.model.named_parameters())
        seen.frozen += len(frozen)
        seen.thawed += [
            f"{one.stage.name}: {name}"
            for name, old in before.items()
            if not torch.equal(old, after[name])
        ]
        return trained

    return train
