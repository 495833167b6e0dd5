"""Image classification data: a local folder, a hub data set, or pictures of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from torch import Tensor
from torch.utils.data import DataLoader

from gossamer.data.augment import Augmentation, View, evaluation_view, training_view
from gossamer.data.finishing import finished
from gossamer.data.image_tables import Published, hub_pictures, read_pictures
from gossamer.data.info import SPLITS, DataInfo, SplitName
from gossamer.data.module import Batched, too_small
from gossamer.data.order import TrainingOrder, loader
from gossamer.data.pictures import MODES, Pictures, digest, grey, shared_rows
from gossamer.data.splits import check_labels, choose_splits, limited
from gossamer.data.views import Augmented, Numbered, Viewed
from gossamer.errors import ConfigError, DataError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures
Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]


class Images(Batched):
    """Pictures with one class each.

    Locally a folder of parquet files (train, and validation or test or both) with a column of
    encoded pictures, or `<split>/<class>/<picture>`. Without a test split whose labels are public,
    the validation split is test; a missing validation split is carved out of training.

    The seed, the batch's number and the row decide what is drawn, on any number of workers and
    devices; mixup and cutmix pair the rows of a device's part of the batch. Training pictures of
    `batches("train")`, for calibration, are those of evaluation.

    Args:
        hub, subset, revision: a data set of the hub, read where `path` is None.
        path: the local folder.
        cache: where hub files, and a copy of parquet files that do not fit in memory, are kept;
            None: Hugging Face's own place.
        image, label: column, or the names that it may have.
        channels: 1 or 3, to which all pictures are converted; None: as the first one has.
        size: pixels, of both sides, of what the model sees.
        crop_pct: share of the resized shorter side that the crop takes.
        interpolation: of resizing.
        mean, std: per channel, on a scale from 0 to 1, or one value for all of them; None:
            ImageNet's.
        flip, padding, scale, rand_augment, random_erasing, mixup, cutmix, smoothing: of training
            only, as in `data.augment.Augmentation`.
        batch_size: pictures per batch, for training (over all devices together) and evaluation.
        workers: processes that decode and augment; 0: none.
        limit: at most so many rows of each split, by a fixed draw; None: all.
    """

    def __init__(
        self,
        hub: str | None = None,
        subset: str | None = None,
        revision: str | None = None,
        path: str | None = None,
        cache: str | None = None,
        image: str | tuple[str, ...] = "image",
        label: str | tuple[str, ...] = "label",
        channels: Literal[1, 3] | None = None,
        size: int = 224,
        crop_pct: float = 1.0,
        interpolation: Interpolation = "bicubic",
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        flip: bool = False,
        padding: int = 0,
        scale: tuple[float, float] | None = None,
        rand_augment: str | None = None,
        random_erasing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        smoothing: float = 0.0,
        batch_size: int = 32,
        workers: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        self.source, self.path, self.cache = (hub, subset, revision), path, cache
        self.image = (image,) if isinstance(image, str) else tuple(image)
        self.label = (label,) if isinstance(label, str) else tuple(label)
        self.name = "image_folder" if hub is None else hub.split("/")[-1]
        self.channels, self.size = channels, size
        self.crop_pct, self.interpolation = crop_pct, interpolation
        self.mean = None if mean is None else tuple(mean)
        self.std = None if std is None else tuple(std)
        self.augmentation = Augmentation(
            flip=flip,
            padding=padding,
            scale=None if scale is None else (scale[0], scale[1]),
            rand_augment=rand_augment,
            random_erasing=random_erasing,
            mixup=mixup,
            cutmix=cutmix,
            smoothing=smoothing,
        )
        self.batch_size, self.workers, self.limit = batch_size, workers, limit
        self.splits: dict[str, Pictures] = {}
        self.statistics: tuple[tuple[float, ...], tuple[float, ...]]  # mean, std per channel
        if problems := [*self._problems(), *self.augmentation.problems()]:
            raise ConfigError(*problems)

    def _problems(self) -> list[str]:
        found = too_small(
            {
                "size": (self.size, 1),
                "batch_size": (self.batch_size, 1),
                "workers": (self.workers, 0),
                "limit": (self.limit, 1),
            }
        )
        if self.channels not in (None, *MODES):
            found.append(f"dataset.channels={self.channels}: 1, 3 or null")
        if not 0 < self.crop_pct <= 1:
            found.append(f"dataset.crop_pct={self.crop_pct}: above 0, at most 1")
        if self.interpolation not in get_args(Interpolation):
            known = ", ".join(get_args(Interpolation))
            found.append(f"dataset.interpolation={self.interpolation}: one of {known}")
        if (self.mean is None) != (self.std is None):
            found.append("dataset.mean and dataset.std: give both or neither")
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) not in (1, self.channels or 1, 3):
                found.append(f"dataset.{key}={list(values)}: one value, or one per channel")
        if self.std is not None and min(self.std, default=0) <= 0:
            found.append(f"dataset.std={list(self.std)}: above 0")
        return found

    # What a data set with pictures of its own overrides, beside its name.

    def read(self) -> Published:
        """(published splits, classes)."""
        if self.path is not None:
            return read_pictures(self.name, self.path, self.image, self.label, self.cache)
        hub, subset, revision = self.source
        if hub is None:
            raise DataError(
                "dataset.path is not set: give the folder that holds train.parquet, or train/ with "
                "a folder per class"
            )
        return hub_pictures(self.name, (hub, subset, revision), self.image, self.label, self.cache)

    # The interface of the house.

    def load(self) -> None:
        """Find the pictures, once; none but the first is decoded.

        Raises:
            DataError: an unreadable or missing file, an empty split, wrong labels.
        """
        if self.splits:
            return
        published, classes = self.read()
        splits, notes = choose_splits(published)
        check_labels(self.name, splits, classes)
        notes += shared_rows(splits)
        splits = limited(splits, self.limit)
        channels = self.channels or (1 if grey(splits["train"].decoded(0)) else 3)
        self.statistics = self._statistics(channels)
        self._info = DataInfo(
            kind="image",
            classes=classes,
            rows={split: len(splits[split]) for split in SPLITS},
            max_length=0,
            metrics=("accuracy", "top5", "ece") if len(classes) > 5 else ("accuracy", "ece"),
            name=self.name,
            notes=tuple(notes),
            image=(channels, self.size, self.size),
        )
        self.splits = splits

    def _statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std), a value per channel."""
        mean, std = self.mean or MEAN, self.std or STD
        if self.mean is None and channels == 1:
            mean, std = (sum(MEAN) / 3,), (sum(STD) / 3,)
        if not {len(mean), len(std)} <= {1, channels}:
            raise ConfigError(
                f"dataset.mean={list(mean)}, dataset.std={list(std)}: {self.name} has {channels} "
                f"channels; give one value, or one per channel"
            )
        wide = [one * channels if len(one) == 1 else one for one in (mean, std)]
        return wide[0], wide[1]

    def fingerprint(self) -> str:
        """sha256 of the splits as used."""
        self.load()
        return digest(self.splits, self.info.classes)

    def rows(self, split: SplitName) -> Viewed:
        """A split as evaluation sees it."""
        return self._viewed(split, evaluation_view(self.size, self.crop_pct, self.interpolation))

    def _viewed(self, split: SplitName, view: View) -> Viewed:
        assert self.info.image is not None
        return Viewed(self.splits[split], self.info.image[0], view)

    def train_batches(
        self, seed: int, first: int, count: int, shard: tuple[int, int] = (0, 1)
    ) -> DataLoader:
        """As in `Batched`, with pictures drawn anew for every batch."""
        self.load()
        view = training_view(
            self.augmentation, self.size, self.crop_pct, self.interpolation, self.statistics[0]
        )
        rows = self._viewed("train", view)
        order = TrainingOrder(len(rows), self.batch_size, seed, first, count, shard)
        drawn = Augmented(rows, self.augmentation, self.size, seed)
        return loader(drawn, Numbered(order), self.workers, seed)

    def on_device(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """uint8 pictures normalised, and a training batch erased and mixed."""
        assert self.info.classes is not None
        augmentation = self.augmentation
        return finished(
            batch,
            *self.statistics,
            classes=len(self.info.classes),
            smoothing=augmentation.smoothing,
            mixes=augmentation.mixes,
        )

    def sample(self, batch_size: int) -> Mapping[str, Tensor]:
        """The first rows of training (from the start again if there are fewer), unaugmented and
        ready for the model."""
        rows = self.rows("train")
        return self.on_device(rows[[row % len(rows) for row in range(batch_size)]])
