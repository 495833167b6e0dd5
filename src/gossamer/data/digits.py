"""The embedded image data set: scikit-learn's handwritten digits."""

from __future__ import annotations

import hashlib
import io

import numpy as np

from gossamer.data.image_tables import Published
from gossamer.data.images import Images, Interpolation
from gossamer.data.pictures import Held, Pictures
from gossamer.seeds import generator

SHARES = {"validation": 0.1, "test": 0.25}  # of the 1797 pictures; the rest is training
DEEPEST = 16  # the value of a pixel that is all ink


class Digits(Images):
    """1797 grey pictures of 8 x 8 pixels, of ten digits (Alpaydin and Kaynak 1998), enlarged to
    `size`. Every run has the same splits: 1168 for training, 180 for validation, 449 for test.

    Args:
        size, interpolation, padding, rand_augment, random_erasing, mixup, cutmix, smoothing,
            batch_size, workers, limit: as in `Images`.
    """

    def __init__(
        self,
        size: int = 16,
        interpolation: Interpolation = "bilinear",
        padding: int = 0,
        rand_augment: str | None = None,
        random_erasing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        smoothing: float = 0.0,
        batch_size: int = 64,
        workers: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__(
            channels=1,
            size=size,
            interpolation=interpolation,
            mean=(0.305,),  # of the training split at 16 pixels
            std=(0.318,),
            padding=padding,
            rand_augment=rand_augment,
            random_erasing=random_erasing,
            mixup=mixup,
            cutmix=cutmix,
            smoothing=smoothing,
            batch_size=batch_size,
            workers=workers,
            limit=limit,
        )
        self.name = "digits"

    def read(self) -> Published:
        import torch
        from PIL import Image
        from sklearn.datasets import load_digits

        found = load_digits()
        depths = np.rint(found.images * (255 / DEEPEST)).astype(np.uint8)  # (rows, 8, 8)
        encoded = []
        for depth in depths:
            stream = io.BytesIO()
            Image.fromarray(depth).save(stream, "PNG")
            encoded.append(stream.getvalue())
        identity = hashlib.sha256(depths.tobytes()).hexdigest()
        rows = Pictures.of(Held(tuple(encoded), self.name, identity), found.target.tolist())
        order = torch.randperm(len(rows), generator=generator(0, "digits")).tolist()
        splits, start = {}, 0
        for split, share in SHARES.items():
            end = start + round(share * len(rows))
            splits[split] = rows.take(sorted(order[start:end]))
            start = end
        return splits | {"train": rows.take(sorted(order[start:]))}, tuple("0123456789")
