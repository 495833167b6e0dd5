"""Splits of labelled rows: what is wrong with them, and putting it right, test rows untouched.

Test rows are never removed and never change; what must give way is training, then validation.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch

from gossamer.data.info import SPLITS
from gossamer.errors import DataError
from gossamer.seeds import generator

HIDDEN = -1  # the label of a row whose label is not public


class Labelled(Protocol):
    """Rows of a split: texts here, pictures in `data.pictures`."""

    @property
    def labels(self) -> list[int] | list[float]: ...

    @property
    def hidden(self) -> bool: ...

    def __len__(self) -> int: ...

    def take(self, rows: Iterable[int]) -> Self: ...

    def keys(self) -> list[tuple[str, ...]]: ...


Rows = TypeVar("Rows", bound=Labelled)


@dataclass(frozen=True)
class Split:
    """Texts (or pairs of texts) with a class index or a score each."""

    first: list[str]
    second: list[str] | None
    labels: list[int] | list[float]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Iterable[int]) -> Split:
        rows = list(rows)
        return Split(
            [self.first[row] for row in rows],
            None if self.second is None else [self.second[row] for row in rows],
            [self.labels[row] for row in rows],  # type: ignore[arg-type]
        )

    def keys(self) -> list[tuple[str, ...]]:
        """What makes two rows the same: their texts, but for surrounding white space."""
        columns = [self.first] if self.second is None else [self.first, self.second]
        return [tuple(text.strip() for text in row) for row in zip(*columns, strict=True)]

    @property
    def hidden(self) -> bool:
        """No row's label is public."""
        return len(self) > 0 and set(self.labels) == {HIDDEN}


def choose_splits(published: Mapping[str, Rows]) -> tuple[dict[str, Rows], list[str]]:
    """train / validation / test out of what was published, and a note on what was done.

    A test split without public labels (or none at all) is replaced by the validation split, and the
    split that models are selected on is then carved out of training: as many rows as the published
    validation split, a tenth of training at most, by a fixed draw that no run's seed changes. Rows
    of training that are the same as a carved one (`keys`) are left out.
    """
    splits = {name: split for name, split in published.items() if not split.hidden}
    notes = []
    if "test" not in splits and "validation" in splits:
        why = "its labels are not public" if "test" in published else "none was published"
        notes.append(f"test is the published validation split: {why}")
        splits["test"] = splits.pop("validation")
    if "validation" not in splits and "test" in splits and "train" in splits:
        train, most = splits["train"], len(splits["train"]) // 10
        size = max(1, min(len(splits["test"]), most))
        drawn = torch.randperm(len(train), generator=generator(0, "selection split"))[:size]
        chosen = set(drawn.tolist())
        keys = train.keys()
        taken = {keys[row] for row in chosen}
        splits["validation"] = train.take(sorted(chosen))
        splits["train"] = train.take(row for row in range(len(train)) if keys[row] not in taken)
        notes.append(f"validation is {size} rows carved out of training by a fixed draw")
    return {name: splits[name] for name in SPLITS if name in splits}, notes


def overlaps(splits: Mapping[str, Labelled]) -> dict[str, list[int]]:
    """split -> rows whose texts occur in a later split (validation or test for training, test for
    validation); splits without such rows are left out."""
    later: set[tuple[str, ...]] = set()
    found = {}
    for name in reversed(SPLITS):
        keys = splits[name].keys()
        rows = [row for row, key in enumerate(keys) if key in later]
        if rows:
            found[name] = rows
        later.update(keys)
    return dict(reversed(found.items()))


def remove_rows(split: Split, rows: Iterable[int]) -> Split:
    gone = set(rows)
    return split.take(row for row in range(len(split)) if row not in gone)


def check_labels(
    name: str, splits: Mapping[str, Labelled], classes: tuple[str, ...] | None
) -> None:
    """Raise a DataError if a split is missing or empty, or a label is not what training knows."""
    for split in SPLITS:
        if split not in splits:
            raise DataError(f"{name}: no {split} split with public labels")
        if not len(splits[split]):
            raise DataError(f"{name}: the {split} split is empty")
    if classes is None:
        for split, one in splits.items():
            bad = [row for row, score in enumerate(one.labels) if not math.isfinite(score)]
            if bad:
                raise DataError(f"{name}: {split} row {bad[0]} has the score {one.labels[bad[0]]}")
        return
    if len(classes) < 2:
        raise DataError(f"{name}: only one class ({classes[0]}): nothing to tell apart")
    for split, one in splits.items():
        counts = Counter(one.labels)
        wrong = sorted(label for label in counts if not 0 <= label < len(classes))
        if wrong:
            rows = sum(counts[label] for label in wrong)
            raise DataError(
                f"{name}: the {split} split has {rows} rows with labels {wrong[:5]}, but the "
                f"classes are 0 to {len(classes) - 1} ({', '.join(classes[:5])}"
                f"{', …' if len(classes) > 5 else ''})"
            )
    known = set(splits["train"].labels)
    for split in ("validation", "test"):
        for label in sorted(set(splits[split].labels) - known):
            raise DataError(
                f"{name}: class {classes[int(label)]!r} occurs in the {split} split, "
                f"but never in training"
            )


def limited(splits: Mapping[str, Rows], limit: int | None) -> dict[str, Rows]:
    """At most `limit` rows of each split, by a fixed draw, in their order."""
    chosen = {}
    for name, split in splits.items():
        if limit is not None and limit < len(split):
            order = torch.randperm(len(split), generator=generator(0, "limit", name))
            split = split.take(sorted(order[:limit].tolist()))
        chosen[name] = split
    return chosen


def digest(splits: Mapping[str, Split], classes: tuple[str, ...] | None) -> str:
    """sha256 over classes, texts and labels of every split, in order."""
    sha = hashlib.sha256(repr(classes).encode())
    for name in SPLITS:
        split = splits[name]
        for row in zip(split.first, split.second or [""] * len(split), split.labels, strict=True):
            sha.update(repr((name, *row)).encode())
    return sha.hexdigest()
