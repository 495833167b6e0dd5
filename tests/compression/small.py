"""A two-block model with named parts, small enough to check by hand, and the engine's verbs."""

import torch
from torch import Tensor, nn

from gossamer.contract import Stage
from gossamer.models.parts import Parts


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:  # (batch, tokens, 8)
        x = x + nn.functional.scaled_dot_product_attention(
            self.query(x), self.key(x), self.value(x)
        )
        return x + self.down(self.up(x).relu())


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(20, 8)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(8, 3)
        roles = ("query", "key", "value", "up", "down")
        self.parts = Parts(
            blocks=("blocks.0", "blocks.1"),
            attention=(),
            linear={f"blocks.{block}.{role}": role for block in range(2) for role in roles},
            units=(),
            head=("head",),
            embeddings=("embeddings",),
        )

    def forward(self, input_ids: Tensor) -> Tensor:  # (batch, tokens) -> (batch, 3)
        x = self.embeddings(input_ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=1))


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small()


def inputs() -> Tensor:
    return torch.randint(20, (16, 5), generator=torch.Generator().manual_seed(1))


def one_shot(method, model, name: str, done: frozenset[str] = frozenset()) -> list[str]:
    """Run a one-shot stage to its end; returns the units it yielded."""
    stage = Stage(name, share=0.0, seed=7)
    enter(method, stage, model)
    return list(method.apply(stage, model, [], done))


def train(method, model, steps: int = 5) -> None:
    """A trained stage as the engine does it: switches, steps, after_step."""
    enter(method, Stage("train", steps=steps), model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    labels = torch.arange(16) % 3
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs()), labels).backward()
        optimizer.step()
        method.after_step(step, model, optimizer)


def enter(method, stage: Stage, model) -> None:
    model.requires_grad_(True)
    method.enter(stage, model)
