"""The arms of benchmarks/sparsifiner.py: which method, at which size, on which data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gossamer.models.token_blocks import alive
from gossamer.sparsity import attention_macs as macs
from gossamer.sparsity.attention import budget_of

KEEPS = (0.25, 0.1, 0.05)
SETS = {
    "match_to_sample": "match-to-sample",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
}
LEARNED, HALF, ORACLE = "Sparsifiner", "Sparsifiner, half the basis", "oracle"
MEAN, WINDOW, RANDOM = "static: mean pattern", "static: window", "static: random"
LINFORMER, TOKENS, BOTH = "Linformer", "token pruning", "token pruning + Sparsifiner"
RHO = 0.3  # of the basis, where a budget is planned before there is one
FEWER = 0.7  # of the patches that are left behind each location, in BOTH


@dataclass(frozen=True)
class Shape:
    """Of the model: tokens n (one of them the class token), width d, heads, blocks."""

    tokens: int
    width: int
    heads: int
    blocks: int
    reduce_n: int
    reduce_c: int
    coefficients: int
    counts: bool = True  # is what chooses the keys part of the MACs that baselines may have?

    @property
    def basis(self) -> int:
        return max(1, self.tokens // self.reduce_n)

    def learned(self, keep: float) -> int:
        """Attention MACs of a block with Sparsifiner, as planned; with the predictor's if it
        `counts`."""
        products = macs.budgeted(self.tokens, self.width, budget_of(keep, self.tokens), 1)
        if not self.counts:
            return products
        return products + macs.predictor(
            self.tokens,
            self.width,
            self.heads,
            channels=self.width // self.heads // self.reduce_c,
            basis=self.basis,
            kept=min(self.coefficients, self.basis),
            density=RHO,
        )

    def budget(self, most: int) -> int:
        """The largest budget of keys whose products take at most so many MACs in a block."""
        fits = [
            count
            for count in range(1, self.tokens + 1)
            if macs.budgeted(self.tokens, self.width, count, 1) <= most
        ]
        return max(fits, default=1)

    def rank(self, most: int) -> int:
        """The same for Linformer's rank."""
        return max(1, min(self.tokens, most // macs.low_rank(self.tokens, self.width, 1)))

    def kept_tokens(self, saved: int) -> float:
        """The share of patches left by token pruning that saves this many MACs of the whole model,
        as nearly as patches allow (at least so many)."""
        shares = (1 - step / 1000 for step in range(1000))
        return next(share for share in shares if self.fewer_tokens(share)[0] >= saved)

    def fewer_tokens(self, share: float) -> tuple[int, int]:
        """(MACs of the model that token pruning saves with this `keep`, MACs of the attention
        products that are left)."""
        patches = self.tokens - 1
        places = tuple(self.blocks * quarter // 4 for quarter in (1, 2, 3))
        behind = alive(patches, share, places, self.blocks)
        saved = self._passed([patches] * self.blocks) - self._passed(behind)
        reach = [self.tokens, *(count + 1 for count in behind[:-1])]
        return saved, sum(macs.dense(count, self.width) for count in reach)

    def _passed(self, behind: list[int]) -> int:
        """MACs of all blocks with so many patches behind each one: attention and qkv, projection
        of the tokens that enter, feed-forward of those that leave."""
        width, entering = self.width, [self.tokens - 1, *behind[:-1]]
        return sum(
            macs.dense(before + 1, width) + 4 * (before + 1) * width**2 + 8 * (after + 1) * width**2
            for before, after in zip(entering, behind, strict=True)
        )


@dataclass(frozen=True)
class Set:
    """One data set in a preset."""

    words: tuple[str, ...]  # of model and data
    shape: Shape
    base_steps: int
    steps: int  # of every trained arm
    recover: float  # Sparsifiner's share of them for the backbone
    fit_steps: int  # of the predictors in the look-up part, the backbone left as it is
    lr: float  # of the base and its twin
    reconstruct_lr: float
    distill_lr: float
    samples: int


@dataclass(frozen=True)
class Preset:
    sets: dict[str, Set]
    common: tuple[str, ...]
    workers: int
    threads: int
    told: str

    def setting(self, seeds: int) -> str:
        return f"{self.told}; {seeds} seeds, mean ± 95% interval."


@dataclass(frozen=True)
class Arm:
    part: str  # look-up | trained
    dataset: str
    keep: float
    name: str
    words: tuple[str, ...]
    steps: int
    shape: Shape


def arms(preset: Preset, dataset: str, keep: float) -> Iterator[Arm]:
    one = preset.sets[dataset]
    shape = one.shape

    def arm(part: str, name: str, steps: int, *methods: tuple[str, dict[str, Any]]) -> Arm:
        words = [f"compression=[{','.join(method for method, _ in methods)}]"]
        words += [
            f"compression.{method}.{key}={value}"
            for method, settings in methods
            for key, value in settings.items()
        ]
        return Arm(part, dataset, keep, name, tuple(words), steps, shape)

    predictor = {
        "keep": keep,
        "reduce_n": shape.reduce_n,
        "reduce_c": shape.reduce_c,
        "coefficients": shape.coefficients,
        "reconstruct_lr": f"{one.reconstruct_lr:g}",
        "samples": one.samples,
    }
    fixed = {"keep": keep, "samples": one.samples, "recover": 0.0}
    if dataset == "match_to_sample":
        learned = {**predictor, "recover": 0.0}
        yield arm("look-up", LEARNED, one.fit_steps, ("sparsifiner", learned))
        half = {**learned, "reduce_n": 2 * shape.reduce_n}
        yield arm("look-up", HALF, one.fit_steps, ("sparsifiner", half))
        yield arm("look-up", ORACLE, 0, ("sparsifiner", {**fixed, "kind": "oracle"}))
        for name, kind in ((MEAN, "mean"), (WINDOW, "window"), (RANDOM, "random")):
            yield arm("look-up", name, 0, ("static_attention", {**fixed, "kind": kind}))
    lr = {"lr": f"{one.distill_lr:g}"}
    trained = ("sparsifiner", {**predictor, **lr, "recover": one.recover})
    most = shape.learned(keep)
    equal = {"budget": shape.budget(most), "samples": one.samples, **lr}
    saved = shape.blocks * (macs.dense(shape.tokens, shape.width) - most)
    yield arm("trained", LEARNED, one.steps, trained)
    oracle = {"keep": keep, "kind": "oracle", "samples": one.samples, **lr}
    yield arm("trained", ORACLE, one.steps, ("sparsifiner", oracle))
    for name, kind in ((MEAN, "mean"), (WINDOW, "window"), (RANDOM, "random")):
        yield arm("trained", name, one.steps, ("static_attention", {**equal, "kind": kind}))
    yield arm("trained", LINFORMER, one.steps, ("linformer", {"rank": shape.rank(most), **lr}))
    fewer = {"keep": f"{shape.kept_tokens(max(0, saved)):g}", **lr}
    yield arm("trained", TOKENS, one.steps, ("token_pruning", fewer))
    gone = ("token_pruning", {"keep": FEWER, "recover": 0.0})
    yield arm("trained", BOTH, one.steps, gone, trained)


# with 18 tokens a predictor that finds a glyph takes more than it saves, so there it is not counted
TILES = Shape(
    18, width=64, heads=2, blocks=2, reduce_n=1, reduce_c=2, coefficients=18, counts=False
)
SMALL = Shape(tokens=65, width=192, heads=3, blocks=6, reduce_n=6, reduce_c=4, coefficients=8)
LARGE = Shape(tokens=197, width=384, heads=6, blocks=12, reduce_n=6, reduce_c=2, coefficients=8)
DEIT_S = ("model=vit", "model.source=deit_small_patch16_224", "model.weights=init")


def _images(name: str, *words: str) -> tuple[str, ...]:
    return (f"dataset={name}", "dataset.size=32", *words)


CPU_IMAGES = {
    name: Set(
        words=("model=vit_tiny", *_images(name, "dataset.batch_size=32", "dataset.limit=1200")),
        shape=SMALL,
        base_steps=240,
        steps=24,
        recover=0.5,
        fit_steps=0,
        lr=5e-4,
        reconstruct_lr=3e-3,
        distill_lr=2e-4,
        samples=128,
    )
    for name in ("fashion_mnist", "cifar10")
}
GPU_IMAGES = {
    name: Set(
        words=(*DEIT_S, "model.patch=4", *_images(name, "dataset.batch_size=512")),
        shape=Shape(
            tokens=65, width=384, heads=6, blocks=12, reduce_n=6, reduce_c=2, coefficients=8
        ),
        base_steps=6000,
        steps=2000,
        recover=0.9,
        fit_steps=0,
        lr=1e-3,
        reconstruct_lr=1e-3,
        distill_lr=2e-4,
        samples=512,
    )
    for name in ("fashion_mnist", "cifar10")
}
PRESETS = {
    "cpu": Preset(
        sets={
            "match_to_sample": Set(
                words=(
                    "model=vit",
                    "model.weights=init",
                    "model.patch=4",
                    "model.width=64",
                    "model.layers=2",
                    "model.heads=2",
                    "model.neurons=128",
                    "dataset=match_to_sample",
                ),
                shape=TILES,
                base_steps=600,
                steps=600,
                recover=0.33,
                fit_steps=400,
                lr=2e-3,
                reconstruct_lr=3e-3,
                distill_lr=2e-3,
                samples=512,
            ),
            **CPU_IMAGES,
        },
        common=("trainer.accelerator=cpu", "trainer.validation_batches=4"),
        workers=2,
        threads=1,
        told=(
            "CPU preset: match_to_sample in full (a ViT of 2 blocks, 64 wide, 18 tokens; base of "
            "600 steps of 256 pictures, every trained arm 600 more, predictors left alone with "
            "the backbone 400); Fashion-MNIST and CIFAR-10 on vit_tiny at 32 pixels (65 tokens), "
            "at most 1,200 rows of each split, base of 240 steps of 32 images, every arm 24 more"
        ),
    ),
    "gpu": Preset(
        sets={
            "match_to_sample": Set(
                words=(*DEIT_S, "dataset=match_to_sample_large", "dataset.batch_size=256"),
                shape=LARGE,
                base_steps=20000,
                steps=4000,
                recover=0.5,
                fit_steps=4000,
                lr=5e-4,
                reconstruct_lr=1e-3,
                distill_lr=1e-4,
                samples=512,
            ),
            **GPU_IMAGES,
        },
        common=("trainer.accelerator=gpu", "trainer.precision=bf16-mixed", "dataset.workers=4"),
        workers=2,
        threads=8,
        told=(
            "GPU preset: match_to_sample_large (DeiT-S, 197 tokens), all rows of Fashion-MNIST and "
            "CIFAR-10 (DeiT-S with patches of 4 pixels, 65 tokens)"
        ),
    ),
}
