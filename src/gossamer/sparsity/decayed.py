"""AdamW in which masked weights decay, more and more: the annealed SR-STE of AST.

Huang, Zhang, Zheng, Chen: Pruning large language models with semi-structural adaptive sparse
training, AAAI 2025, section 3.2. After the gradient was clipped

    g̃_t = g_t + λ(t) (1 − M) ∘ W_t,     λ(t) = λ · min(t / t_ramp, 1),     t = 0, 1, …

and g̃ goes to AdamW. M is the mask of |W|, made before the update of every `refresh` steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from gossamer.sparsity.masks import local
from gossamer.sparsity.patterns import parse


class DecayedAdamW(torch.optim.AdamW):
    """Args:
        params: parameters, or groups of them; weights of a group with "sparse": True decay.
        decay: λ, reached after `ramp` steps (0: at once).
        pattern: N:M. refresh: steps between two masks.

    The state `masked` is 1 where a weight is masked and 0 elsewhere, in the weight's dtype: torch
    loads every state in it. It is laid out like the weight; rows may be spread over processes.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        decay: float,
        ramp: int,
        pattern: str = "2:4",
        refresh: int = 10,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.pattern, self.refresh = parse(pattern), refresh
        self.decay, self.ramp = decay, ramp
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        for group in self.param_groups:
            group.setdefault("sparse", False)
            group["done"] = 0  # steps

    def rate(self, step: int) -> float:
        """λ(t) of step t, from 0."""
        return self.decay * (min(step / self.ramp, 1.0) if self.ramp else 1.0)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        fresh: dict[Tensor, Tensor] = {}  # AdamW makes its own state where there is none at all
        for group in self.param_groups:
            for parameter in group["params"]:
                if group["sparse"] and parameter.grad is not None:
                    masked = self._masked(parameter, group["done"], fresh)
                    rate = self.rate(group["done"])
                    local(parameter.grad).addcmul_(local(parameter), masked, value=rate)
            group["done"] += 1
        super().step()
        for parameter, masked in fresh.items():
            self.state[parameter]["masked"] = kept = torch.zeros_like(parameter)
            local(kept).copy_(masked)
        return loss

    def _masked(self, parameter: Tensor, step: int, fresh: dict[Tensor, Tensor]) -> Tensor:
        """This process' part of the mask in force."""
        known = self.state[parameter].get("masked")
        if known is not None and step % self.refresh:
            return local(known)
        weight = local(parameter)
        new = (~self.pattern.mask(weight.abs(), None)).to(weight.dtype)
        if known is None:
            fresh[parameter] = new
        else:
            local(known).copy_(new)
        return new
