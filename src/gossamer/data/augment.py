"""What is done to pictures before a model sees them: one view for evaluation, drawn ones for
training, by timm's and torchvision's transforms.

Those draw from the global generators of python, numpy and torch. Here each row of each batch has a
seed of its own, and the global generators are afterwards as they were.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from gossamer.seeds import derive

View = Callable[[Image], Tensor]  # -> (channels, size, size) uint8
RECIPE = re.compile(
    r"rand(-(m\d+|n\d+|p\d*\.?\d+|mstd\d*\.?\d+|mmax\d+|inc[01]|t(weights|3aw?)))*", re.ASCII
)
SWITCH = 0.5  # of batches are cut where both mixup and cutmix are on
AREA = (0.02, 1 / 3)  # of the picture that random erasing takes
ASPECT = (math.log(0.3), math.log(1 / 0.3))
ATTEMPTS = 10


@dataclass(frozen=True)
class Augmentation:
    """What training draws anew for every row and batch; the defaults change nothing.

    Args:
        flip: half of the pictures are mirrored, left to right.
        padding: pixels of black on each side, before a crop of the old size at a random place.
        scale: the least and the largest share of the picture's area that a crop at a random place,
            of an aspect from 3/4 to 4/3, may have; it is resized to the size (Szegedy et al. 2015,
            arXiv:1409.4842).
        rand_augment: timm's recipe for RandAugment (Cubuk et al. 2020, arXiv:1909.13719), e.g.
            rand-m9-mstd0.5-inc1.
        random_erasing: the share of pictures of which a rectangle is replaced by noise (Zhong et
            al. 2020, arXiv:1708.04896).
        mixup, cutmix: alpha of the Beta distribution that a batch's share is drawn from (Zhang et
            al. 2018, arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899); 0: off. With both, a
            batch has either.
        smoothing: this much of a target is spread evenly over all classes (Szegedy et al. 2016,
            arXiv:1512.00567).
    """

    flip: bool = False
    padding: int = 0
    scale: tuple[float, float] | None = None
    rand_augment: str | None = None
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    smoothing: float = 0.0

    @property
    def mixes(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def problems(self) -> list[str]:
        """What is wrong with the arguments, one line each."""
        found = []
        if self.padding < 0:
            found.append(f"dataset.padding={self.padding}: at least 0")
        if self.scale is not None:
            low_high = tuple(self.scale)
            if len(low_high) != 2 or not 0 < low_high[0] <= low_high[1] <= 1:
                found.append(
                    f"dataset.scale={list(low_high)}: two shares of the area, such as [0.08,1.0]"
                )
            if self.padding:
                found.append(
                    f"dataset.padding={self.padding}: dataset.scale crops too; type "
                    "dataset.padding=0 or dataset.scale=null"
                )
        if self.rand_augment is not None and not RECIPE.fullmatch(self.rand_augment):
            found.append(
                f"dataset.rand_augment={self.rand_augment}: not a recipe of timm's, such as "
                "rand-m9-mstd0.5-inc1"
            )
        if not 0 <= self.random_erasing <= 1:
            found.append(f"dataset.random_erasing={self.random_erasing}: a share from 0 to 1")
        for key, alpha in (("mixup", self.mixup), ("cutmix", self.cutmix)):
            if alpha < 0:
                found.append(f"dataset.{key}={alpha}: at least 0, where 0 is off")
        if not 0 <= self.smoothing < 1:
            found.append(f"dataset.smoothing={self.smoothing}: from 0 to below 1")
        return found


def evaluation_view(size: int, crop_pct: float, interpolation: str) -> View:
    """The shorter side resized to size / crop_pct, and the middle (size, size) of it."""
    from timm.data.transforms_factory import transforms_imagenet_eval

    return transforms_imagenet_eval(
        size, crop_pct=crop_pct, interpolation=interpolation, normalize=False
    )


def training_view(
    augmentation: Augmentation,
    size: int,
    crop_pct: float,
    interpolation: str,
    mean: tuple[float, ...],
) -> View:
    """One drawn view: crop, mirror, RandAugment. Draws from the global generators."""
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.transforms import (
        MaybePILToTensor,
        RandomResizedCropAndInterpolation,
        str_to_interp_mode,
    )
    from torchvision import transforms

    steps: list[Callable] = []
    if augmentation.scale is not None:
        low, high = augmentation.scale
        steps.append(
            RandomResizedCropAndInterpolation(size, (low, high), interpolation=interpolation)
        )
    else:
        mode = str_to_interp_mode(interpolation)
        steps.append(transforms.Resize(math.floor(size / crop_pct), mode))
        steps.append(transforms.RandomCrop(size, augmentation.padding or None))
    if augmentation.flip:
        steps.append(transforms.RandomHorizontalFlip())
    if augmentation.rand_augment is not None:
        fill = tuple(round(255 * value) for value in mean)
        settings = {
            "translate_const": int(size * 0.45),  # timm's share of the size
            "img_mean": fill if len(fill) > 1 else fill[0],
        }
        steps.append(rand_augment_transform(augmentation.rand_augment, settings))
    return transforms.Compose([*steps, MaybePILToTensor()])


@contextmanager
def generators_untouched() -> Iterator[None]:
    """Whatever is drawn inside, python's, numpy's and torch's CPU generators are then as before."""
    python, numpy, tensor = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(tensor)


def seed_row(seed: int, batch: int, row: int) -> None:
    """Seed the CPU generators for one row of one batch; those of a GPU are left alone."""
    value = derive(seed, "augment", batch, row)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.default_generator.manual_seed(value)


def erased_box(share: float, size: int) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of the rectangle that a picture loses, from the global generator;
    an empty one for all but a `share` of pictures."""
    if random.random() >= share:
        return 0, 0, 0, 0
    for _ in range(ATTEMPTS):
        area = random.uniform(*AREA) * size * size
        aspect = math.exp(random.uniform(*ASPECT))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height < size and width < size:
            top, left = random.randint(0, size - height), random.randint(0, size - width)
            return top, top + height, left, left + width
    return 0, 0, 0, 0


def mixing(
    augmentation: Augmentation, seed: int, batch: int, size: int
) -> tuple[float, tuple[int, int, int, int]]:
    """(lambda, box) of one batch: lambda is the share that a row keeps of itself, and the box
    (top, bottom, left, right) what it takes over from another one; empty: it is blended with it."""
    draws = np.random.default_rng(derive(seed, "mixing", batch))
    mixup, cutmix = augmentation.mixup, augmentation.cutmix
    cut = cutmix > 0 and (mixup == 0 or draws.random() < SWITCH)
    if not cut:
        return float(draws.beta(mixup, mixup)), (0, 0, 0, 0)
    side = int(size * math.sqrt(1 - draws.beta(cutmix, cutmix)))
    middle_y, middle_x = (int(one) for one in draws.integers(0, size, 2))
    top, bottom = max(0, middle_y - side // 2), min(size, middle_y + (side + 1) // 2)
    left, right = max(0, middle_x - side // 2), min(size, middle_x + (side + 1) // 2)
    kept = 1 - (bottom - top) * (right - left) / (size * size)  # what of it is inside the picture
    return kept, (top, bottom, left, right)
