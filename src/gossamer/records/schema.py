"""What a record is: one definition for writing, reading and skimming. docs/records.md says what
each field means.

Unknown fields are refused, and a bool is no number. A value that was not finite is None.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
import msgspec.structs
from msgspec import Meta, Raw, Struct

SCHEMA = 2

Metrics = dict[str, float | None]


class Part(Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """An object with exactly the fields it names."""


class Git(Part):
    commit: str | None
    dirty: bool | None


class Choices(Part):
    model: str
    dataset: str
    task: str
    compression: list[str]


class Head(Part):
    schema: int
    id: str
    name: str
    status: Literal["done", "failed", "preempted"]
    started: str
    finished: str
    seed: int
    overrides: list[str]
    config_digest: str
    git: Git
    host: str
    device: str
    versions: dict[str, str | None]
    choices: Choices
    sweep: str | None  # the sweep that ran it, by the name of its folder
    config: dict[str, Any]  # the resolved configuration, without secrets


class Unfinished(Head):
    error: str


class Budget(Part):
    start: Literal["init", "pretrained", "trained"]
    base: int
    steps: int
    unspent: int
    twin: list[int]
    total: int
    pair_equal: bool
    teacher_passes: int
    twin_export: str
    tokens: int | None = None  # None: data without tokens, or a record older than this field


class Stage(Part):
    name: str
    seconds: float
    steps: int
    trainable_parameters: int
    teacher_passes: int
    quality_before: Metrics
    quality_after: Metrics
    figures: Metrics = {}


class Predictions(Part):
    """One value per test row, by name; files relative to the run. None: not kept."""

    dense: str | None
    compressed: str | None


class Quality(Part):
    dense: Metrics
    compressed: Metrics
    primary: str
    direction: Literal["max", "min"]
    split: Literal["test"]
    predictions: Predictions


class Size(Part):
    parameters: int
    dense_parameters: int
    trainable_parameters: int
    nonzero_parameters: int
    bits_per_weight: float | None  # None: no layer was compressed
    checkpoint_bytes: int
    dense_checkpoint_bytes: int
    state_bytes: int
    # None: nothing was quantised or in N:M, or a record older than this field
    format_bytes: int | None = None
    dense_format_bytes: int | None = None


class Modelled(Part):
    by: str
    figure: float | str


class Compute(Part):
    macs_dense: int
    macs_effective: int
    macs_nonzero: int
    counted_by: str
    workload: str
    modelled: Modelled | None
    # None: nothing was quantised or in N:M, or a record older than this field
    bit_operations: int | None = None
    bit_operations_dense: int | None = None
    # attention's products, by closed form, per sample; the densities are of its maps. None: no
    # method chose which keys a query attends to, or a record older than this field
    attention_macs: int | None = None
    attention_macs_dense: int | None = None
    attention_density: float | None = None
    attention_block_density: float | None = None  # None too where tiles were not counted

    @property
    def attention_saved(self) -> float | None:
        return saved(msgspec.structs.asdict(self)).get("attention_saved")

    @property
    def attention_saved_of_model(self) -> float | None:
        return saved(msgspec.structs.asdict(self)).get("attention_saved_of_model")


def saved(compute: Mapping[str, Any]) -> dict[str, float]:
    """What choosing the keys saves in theory, predicting them included: as a share of attention's
    dense products, and of the whole dense model. {} of a record that does not say."""
    before, after = compute.get("attention_macs_dense"), compute.get("attention_macs")
    if after is None or not before:
        return {}
    less = before - after
    whole = compute["macs_dense"]
    return {"attention_saved": less / before, "attention_saved_of_model": less / whole}


Positive = Annotated[float, Meta(gt=0)]


class Ratio(Part):
    p50: Positive
    low: Positive
    high: Positive


class Times(Part):
    p50: float  # ms
    p95: float  # ms
    throughput: float  # samples per second
    peak_memory_bytes: int | None


class Timed(Part):
    workload: str
    device: str
    dtype: str
    runtime: str
    threads: int | None
    neighbours: int | None  # other jobs of the sweep that shared this machine meanwhile
    warmup: int  # calls of each model before the timed ones
    repeats: int  # timed calls of each
    speed_up: Ratio  # dense / compressed
    compressed: Times
    dense: Times
    dense_runtime: str | None = None  # what ran the dense model; None: the same
    notes: list[str] = []  # what must be known of it, e.g. which layers ran dense


class Skipped(Part):
    workload: str
    skipped: str


class Layer(Part):
    name: str
    shape: list[int]
    pattern: str
    target: float | None
    density: float
    bits: float
    macs: int
    state_bytes: int
    changed: bool
    skipped: str | None
    method: str | None
    operands: list[int] | None = None  # bits of weights and inputs; None: floats, or an old record
    dense_macs: int | None = None  # of attention's products, whose `macs` are per sample
    block_density: float | None = None  # of their map: 128 x 128 tiles that are not empty


class Check(Part):
    name: str
    passed: bool
    figure: str


class Artifact(Part):
    path: str
    bytes: int
    sha256: str


class Done(Head):
    budget: Budget
    stages: list[Stage]
    quality: Quality
    size: Size
    compute: Compute
    speed: list[dict[str, Any]]  # each a Timed or a Skipped
    layers: list[Layer]
    checks: list[Check]
    artifacts: list[Artifact]

    def __post_init__(self) -> None:
        for place, entry in enumerate(self.speed):
            try:
                msgspec.convert(entry, Skipped if "skipped" in entry else Timed)
            except msgspec.ValidationError as error:
                raise ValueError(worded(error, f"speed[{place}]")) from None


NOTHING = Raw(b"null")
OPENINGS = {"versions": b"{", "stages": b"[", "layers": b"[", "checks": b"[", "artifacts": b"["}
OBJECT = msgspec.json.Decoder(dict[str, Any])


class Skimmed(Done):
    """A finished run's record without the parts that no comparison reads, which are checked to be
    there and to be objects or arrays; the configuration stays text until it is asked for."""

    versions: Raw  # type: ignore[assignment]
    config: Raw  # type: ignore[assignment]
    stages: Raw  # type: ignore[assignment]
    layers: Raw  # type: ignore[assignment]
    checks: Raw  # type: ignore[assignment]
    artifacts: Raw  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        OBJECT.decode(self.config)
        for name, opening in OPENINGS.items():
            if memoryview(getattr(self, name))[:1] != opening:
                raise ValueError(f"{name}: neither an object nor an array where one should be")
        self.versions = self.stages = self.layers = self.checks = self.artifacts = NOTHING
        self.config = self.config.copy()  # the others are views that keep the whole file in memory


def problem(record: dict[str, Any]) -> str | None:
    """The first thing that keeps a record from being valid: "field.by.path: what"; None if nothing
    does."""
    try:
        msgspec.convert(record, Done if record["status"] == "done" else Unfinished)
    except msgspec.ValidationError as error:
        return worded(error)
    return None


def worded(error: msgspec.ValidationError, where: str = "") -> str:
    """msgspec's message, with the field's path (below `where`) first."""
    what, _, place = str(error).partition(" - at `$")
    path = (where + place.rstrip("`")).lstrip(".")
    if told := re.fullmatch(r"Object (missing required|contains unknown) field `(.*)`", what):
        missing = told[1] == "missing required"
        return f"{path}.{told[2]}".lstrip(".") + (": missing" if missing else ": no such field")
    what = what.replace("`", "")
    return f"{path}: {what[0].lower()}{what[1:]}" if path else what
