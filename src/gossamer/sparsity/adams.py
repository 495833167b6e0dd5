"""AdamS, the optimizer of CAST: Adam in which the weights that a mask would drop shrink.

Huang, Hu, Zhu, Chen: CAST: Continuous and differentiable semi-structured sparsity-aware training
for large language models, arXiv 2509.25996, 2025, algorithm 1. The forward pass stays dense; a mask
of the weights' magnitudes only says which entries are pulled to zero, harder as t nears T:

    g_t = ∂L/∂θ                              μ_t = β1 μ_{t−1} + (1−β1) g_t      of the raw gradient
    α_t = min(t / T, 1)                      μ̃_t = μ_t                                    if m = 1
                                             μ̃_t = (1−α_t) μ_t + α_t λ sign(θ_{t−1})      if m = 0
    v_t = β2 v_{t−1} + (1−β2) μ̃_t²           of the mixed update, not of g²
    θ_t = θ_{t−1} − γ_t [μ̃_t / (1−β1^{t+1})] / (√(v_t / (1−β2^{t+1})) + ε)

for t = 0 … T−1. The mask keeps the N largest |θ| of every M consecutive input weights, exactly N
also on ties, and is made again before the update of every step t that `refresh` divides.

What follows from it: where the decay outweighs the gradient a step is γ long, whatever λ is, so
masked weights end at about the last learning rate. Where gradients are noise, kept weights take
steps √((1+β1)/(1−β1)) times as long as Adam's (4.36 at β1 = 0.9), for v is made of μ: a learning
rate of AdamS is not one of AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import ConfigError, ResumeError
from gossamer.sparsity.masks import local, total
from gossamer.sparsity.patterns import parse

# Entries that go through all operations of a step together. On the CPU they and their four
# companions stay in the cache from one operation to the next, which is worth a factor of two.
TOGETHER = {"cpu": 1 << 18}
ELSEWHERE = 1 << 27  # bounds the temporary memory: two tensors of so many entries
DECLARED = ("total_steps", "refresh", "pattern")  # what a saved state must agree with


class AdamS(torch.optim.Optimizer):
    """Args:
        params: parameters, or groups of them. Those of a group with "sparse": True are Θ, matrices
            (out, in) that are to get the pattern; the others get plain Adam (m = 1 and v of g²).
        lr: γ; a schedule sets it in the groups.
        total_steps: T. Part of the saved state: continuing with another one is a ResumeError.
        decay: λ, of the size of a gradient. None: the root mean square of the gradients of Θ in the
            first step, as this optimizer gets them (after clipping); it is part of the saved state.
        pattern: N:M. refresh: T1, steps between two masks.
        weight_decay: decoupled, as in AdamW: θ loses γ_t times so much of itself in each step. Off
            by default, for the selective decay takes its place.
        foreach: many tensors at once. False: one after another, in the words of the paper.

    Parameters are float32 (or float64): a step is shorter than bfloat16 can tell. The state of a
    parameter is `exp_avg`, `exp_avg_sq` and, in Θ, `masked`: bool, True where m = 0 (the paper
    counts one bit for it, torch takes eight). Each is laid out like its parameter, whose rows FSDP
    spreads over processes: groups of M never cross a row. A parameter without a gradient is left
    alone in that step.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        total_steps: int,
        decay: float | None,
        *,
        pattern: str = "2:4",
        refresh: int = 10,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        foreach: bool = True,
    ) -> None:
        if total_steps < 1 or refresh < 1:
            raise ValueError(f"total_steps={total_steps}, refresh={refresh}: both from 1")
        defaults = {
            "lr": lr,
            "total_steps": total_steps,
            "decay": decay,
            "pattern": str(parse(pattern)),
            "refresh": refresh,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "sparse": False,
            "step": 0,  # t: finished steps
            "flips": 0.0,  # mask bits that the last refresh changed, on all ranks
            "flips_so_far": 0.0,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        pattern = parse(group["pattern"])
        for parameter in group["params"]:
            if parameter.dtype not in (torch.float32, torch.float64):
                raise ConfigError(
                    f"trainer.precision: AdamS was given a parameter in {parameter.dtype}, in "
                    "which its steps are lost; set trainer.precision=bf16-mixed, which keeps "
                    "float32 weights"
                )
            if group["sparse"] and not pattern.m:
                raise ValueError(f"pattern={pattern}: AdamS masks N of M, e.g. 2:4")
            if group["sparse"] and (problem := pattern.problem(tuple(parameter.shape))):
                raise ValueError(f"pattern={pattern}: {problem}")

    def masked(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every weight in Θ that has a mask, with that mask: True where it decays."""
        for group in self.param_groups:
            if group["sparse"]:
                for parameter in group["params"]:
                    if "masked" in self.state[parameter]:
                        yield parameter, self.state[parameter]["masked"]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if any(group["sparse"] and group["decay"] is None for group in self.param_groups):
            self._measure_decay()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for parameter in parameters:
                self._begin(parameter)
            if group["sparse"]:
                self._refresh(group, parameters)
            states = [self.state[p] for p in parameters]
            columns = [parameters, [p.grad for p in parameters]]
            columns += [[state[key] for state in states] for key in ("exp_avg", "exp_avg_sq")]
            if group["sparse"]:
                columns.append([state["masked"] for state in states])
            update = _together if group["foreach"] else _one_by_one
            update(group, [[local(tensor) for tensor in column] for column in columns])
            group["step"] += 1
        return loss

    def _begin(self, parameter: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)

    def _measure_decay(self) -> None:
        """λ = rms of the gradients over Θ: over all of them and on all ranks."""
        groups = [group for group in self.param_groups if group["sparse"]]
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return
        squares = torch.stack([local(g).double().square().sum() for g in gradients])
        count = sum(gradient.numel() for gradient in gradients)
        rms = math.sqrt(float(total(squares, gradients[0]).sum()) / count)
        if not 0 < rms < math.inf:
            raise ConfigError(
                f"decay=null: the gradients of the first step have a root mean square of {rms}; "
                "set decay to a number"
            )
        for group in groups:
            group["decay"] = rms

    def _refresh(self, group: dict[str, Any], parameters: Sequence[Tensor]) -> None:
        """The masks of θ_{t−1}, and how many of their bits are new."""
        known = [p for p in parameters if "masked" in self.state[p]]
        fresh = [p for p in parameters if "masked" not in self.state[p]]
        for parameter in fresh:
            self.state[parameter]["masked"] = torch.zeros_like(parameter, dtype=torch.bool)
        self._mask(group, fresh)
        if known and group["step"] % group["refresh"] == 0:
            changed = self._mask(group, known)
            # still tensors: looking at them would wait for the device
            group["flips"] = total(torch.stack(changed).sum().double(), known[0])
            group["flips_so_far"] = group["flips"] + group["flips_so_far"]

    def _mask(self, group: dict[str, Any], parameters: Sequence[Tensor]) -> list[Tensor]:
        """Make the masks of `parameters` again; how many bits that changed, in parts."""
        pattern, changed = parse(group["pattern"]), []
        columns = [
            [local(p) for p in parameters],
            [local(self.state[p]["masked"]) for p in parameters],
        ]
        for thetas, masked in _portions(columns):
            score = torch.cat([piece.reshape(-1) for piece in thetas]).abs_()
            new = pattern.mask(score[None], None)[0].logical_not_()  # groups never cross a row
            old = torch.cat([piece.reshape(-1) for piece in masked])
            changed.append(torch.count_nonzero(old.logical_xor_(new)))
            for piece, part in zip(masked, new.split([p.numel() for p in masked]), strict=True):
                piece.copy_(part.view(piece.shape))
        return changed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ResumeError if the state was made with another T, T1 or pattern."""
        for mine, saved in zip(self.param_groups, state_dict["param_groups"], strict=False):
            for key in DECLARED:
                if saved.get(key) != mine[key]:
                    raise ResumeError(
                        f"{key}={mine[key]}: the saved state was trained with {key}="
                        f"{saved.get(key)}, on which its schedule depends; set that, or start again"
                    )
        super().load_state_dict(state_dict)
        for state in self.state.values():
            if "masked" in state:  # torch has made it a float, like its parameter
                state["masked"] = state["masked"].bool()


def _scalars(group: dict[str, Any]) -> tuple[float, float, float]:
    """α_t, 1 − β1^{t+1}, 1 − β2^{t+1}."""
    step, (beta1, beta2) = group["step"], group["betas"]
    share = min(step / group["total_steps"], 1.0)
    return share, 1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1)


def _one_by_one(group: dict[str, Any], columns: list[list[Tensor]]) -> None:
    """The module's equations, one parameter at a time."""
    (beta1, beta2), (alpha, first, second) = group["betas"], _scalars(group)
    for theta, gradient, mu, v, *masked in zip(*columns, strict=True):
        mu.lerp_(gradient, 1 - beta1)
        mixed = gradient
        if group["sparse"]:
            pulled = (1 - alpha) * mu + alpha * group["decay"] * theta.sign()
            mixed = torch.where(masked[0], pulled, mu)
        v.mul_(beta2).addcmul_(mixed, mixed, value=1 - beta2)
        theta.mul_(1 - group["lr"] * group["weight_decay"])
        update = mixed if group["sparse"] else mu
        theta.addcdiv_(update / first, (v / second).sqrt().add_(group["eps"]), value=-group["lr"])


def _together(group: dict[str, Any], columns: list[list[Tensor]]) -> None:
    """The same in as few passes over memory as torch's own operations allow. 1 − β2^{t+1} is taken
    out of the root, which saves one: γ μ̃/c1 / (√(v/c2) + ε) = γ √c2/c1 · μ̃ / (√v + ε √c2)."""
    (beta1, beta2), (alpha, first, second) = group["betas"], _scalars(group)
    size, root = group["lr"] * math.sqrt(second) / first, math.sqrt(second)
    for theta, gradient, mu, v, *masked in _portions(columns):
        torch._foreach_lerp_(mu, gradient, 1 - beta1)
        update, squared = tuple(mu), tuple(gradient)
        if group["sparse"]:
            pull = torch._foreach_sign(theta)
            torch._foreach_mul_(pull, group["decay"])
            # α where m = 0, else 0: bytes times a number is the fastest way from bool to float
            share = torch.tensor(alpha, dtype=theta[0].dtype)
            weights = [mask.view(torch.uint8) * share for mask in masked[0]]
            update = squared = torch._foreach_lerp(mu, pull, weights)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, squared, squared, 1 - beta2)
        if group["weight_decay"]:
            torch._foreach_mul_(theta, 1 - group["lr"] * group["weight_decay"])
        denominator = torch._foreach_sqrt(v)
        torch._foreach_add_(denominator, group["eps"] * root)
        torch._foreach_addcdiv_(theta, update, denominator, -size)


def _portions(columns: list[list[Tensor]]) -> Iterator[list[list[Tensor]]]:
    """The lists cut into such with at most `TOGETHER` entries; a matrix that has more is cut into
    views of some of its rows."""
    portion: list[list[Tensor]] = [[] for _ in columns]
    filled = 0
    for tensors in zip(*columns, strict=True):
        most = TOGETHER.get(tensors[0].device.type, ELSEWHERE)
        for pieces in zip(*(_pieces(tensor, most) for tensor in tensors), strict=True):
            if filled and filled + pieces[0].numel() > most:
                yield portion
                portion, filled = [[] for _ in columns], 0
            for column, piece in zip(portion, pieces, strict=True):
                column.append(piece)
            filled += pieces[0].numel()
    if portion[0]:
        yield portion


def _pieces(tensor: Tensor, most: int) -> Sequence[Tensor]:
    if tensor.numel() <= most or tensor.dim() == 0:
        return [tensor]
    return [*tensor.split(max(1, most * len(tensor) // tensor.numel()))]
