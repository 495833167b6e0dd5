"""What a person sees when a run is done: dense against compressed, in one short table."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

NOISE = 0.05  # a latency that differs by less than this share is no difference
# what a latency holds for; dense_runtime is not in every entry: None, or the dense model ran alike
SETTING = ("device", "dtype", "runtime", "dense_runtime", "threads", "neighbours")
MACHINE = ("workload", "device", "threads", "neighbours")
NAMED = 6  # passed checks that are named before "and n more"

Record = Mapping[str, Any]
Entry = Mapping[str, Any]  # of a record's speed
Row = tuple[str, str, str, str]


def summary(record: Record, directory: str | Path) -> None:
    """Print the end-of-run table of a finished run, its checks, and where the results lie."""
    from rich.table import Table
    from rich.text import Text

    console = stdout()
    compressed = bool(methods(record))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    names = ("dense", "compressed", "change") if compressed else ("dense",)
    for name in names:
        table.add_column(name, justify="right")
    for label, dense, small, change in rows(record):
        cells = (dense, small, change) if compressed else (small,)
        table.add_row(Text(label), *map(Text, cells))
    console.print()
    console.print(table)
    for line in notes(record):
        console.print(line, soft_wrap=True)
    for line in check_lines(record["checks"]):
        console.print(line, soft_wrap=True, style="red" if line.startswith("✗") else None)
    console.print(f"record  {Path(directory) / 'record.json'}", soft_wrap=True)
    console.print(f"model   {Path(directory) / 'export'}", soft_wrap=True)


def stdout(whole: bool = False) -> Any:
    """rich's console of stdout, which takes text as it is. `whole`: a file or a pipe, which has no
    width to fit in, gets lines that are not cut."""
    from rich.console import Console

    if hasattr(sys.stdout, "reconfigure"):  # a terminal without ✓ is no reason to fail
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False, markup=False, emoji=False)
    if whole and not console.is_terminal:
        console.width = 10_000
    return console


def methods(record: Record) -> list[str]:
    """The compression methods of a run, in order; [] for a dense one."""
    return [name for name in record["choices"]["compression"] if name != "none"]


def rows(record: Record) -> Iterator[Row]:
    """(label, dense, compressed, change) for every line of the table."""
    quality, size, compute = record["quality"], record["size"], record["compute"]
    primary = quality["primary"]
    others = [name for name in quality["compressed"] if name != primary]
    for name in [primary, *others]:
        before, after = quality["dense"].get(name), quality["compressed"].get(name)
        label = name if "/" in name else f"{quality['split']} {name}"  # or of data of its own
        yield label, metric(before), metric(after), difference(before, after)
    all_dense, nonzero = size["dense_parameters"], size["nonzero_parameters"]
    trained = share(size["trainable_parameters"], all_dense)
    yield "trainable parameters", "", f"{size['trainable_parameters']:,}", trained
    yield (
        "non-zero parameters",
        f"{all_dense:,}",
        f"{nonzero:,}",
        relative(all_dense, nonzero),
    )
    before, after = size["dense_checkpoint_bytes"], size["checkpoint_bytes"]
    yield "on disk, MB", f"{before / 1e6:,.2f}", f"{after / 1e6:,.2f}", relative(before, after)
    if after := size.get("format_bytes"):
        before = size["dense_format_bytes"]
        cells = f"{before / 1e6:,.2f}", f"{after / 1e6:,.2f}", f"{before / after:.2f}× smaller"
        yield "storage by format, MB", *cells
    before, after = compute["macs_dense"], compute["macs_effective"]
    yield "MACs per sample, executed", amount(before), amount(after), relative(before, after)
    if (theory := compute["macs_nonzero"]) != after:
        label = "MACs of non-zeros, theoretical"
        yield label, amount(before), amount(theory), relative(before, theory)
    if after := compute.get("bit_operations"):
        before = compute["bit_operations_dense"]
        cells = amount(before), amount(after), f"{before / after:.2f}× fewer"
        yield "bit operations, theoretical", *cells
    yield from attention_rows(compute)
    timed = honest(record["speed"])
    for label, entry in zip(speed_labels(timed), timed, strict=True):
        yield latency_row(f"latency p50, {label}", entry)


def attention_rows(compute: Mapping[str, Any]) -> Iterator[Row]:
    """Of attention's products, where a method chose what they see; nothing is executed faster for
    it."""
    after, before = compute.get("attention_macs"), compute.get("attention_macs_dense")
    if after is None or not before:
        return
    yield "attention MACs, theoretical", amount(before), amount(after), relative(before, after)
    whole = compute["macs_dense"]
    left = whole - before + after
    yield "  with them the whole model", amount(whole), amount(left), relative(whole, left)
    kept, tiles = compute.get("attention_density"), compute.get("attention_block_density")
    if kept is not None:
        yield "attention map, by element", "100.0%", f"{100 * kept:.1f}%", ""
    if tiles is not None:
        yield "  by tiles of 128 × 128", "100.0%", f"{100 * tiles:.1f}%", ""


def attention_notes(compute: Mapping[str, Any]) -> Iterator[str]:
    """What the closed form of attention's products must not be taken for."""
    after, before = compute.get("attention_macs"), compute.get("attention_macs_dense")
    if after is None or not before:
        return
    if after >= before and (compute.get("attention_density") or 1) < 1:
        yield "attention: choosing the keys takes as many MACs as it saves, or more"
    elif after < before and compute["macs_effective"] >= compute["macs_dense"]:
        yield (
            "attention: the MACs saved are theory, and none is executed less; a mask over single "
            "keys makes nothing faster by itself"
        )


def honest(entries: Sequence[Entry]) -> list[Entry]:
    """The entries without those that a slower runtime is told of. Where a workload was measured on
    a machine against several runtimes of the dense model, that is one: the compressed model in the
    runtime that is fastest for it, against the dense one in the runtime that is fastest for that.
    """
    several = {_machine(each) for each in entries if each.get("dense_runtime")}
    best: dict[tuple[Any, ...], Entry] = {}
    for entry in entries:
        where = _machine(entry)
        if where in several and (where not in best or _times(entry) < _times(best[where])):
            best[where] = entry
    chosen = [id(entry) for entry in best.values()]
    return [e for e in entries if _machine(e) not in several or id(e) in chosen]


def _machine(entry: Entry) -> tuple[Any, ...]:
    return tuple(entry.get(name) for name in MACHINE)


def _times(entry: Entry) -> tuple[float, float]:
    return entry["compressed"]["p50"], entry["dense"]["p50"]


def speed_labels(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each entry of `speed`: its workload, and what sets it apart from the others of its
    kind (device, dtype, runtime, threads) where there are several."""
    measured = [entry for entry in entries if "skipped" not in entry]
    apart = [name for name in SETTING if len({entry.get(name) for entry in measured}) > 1]
    return [
        " on ".join([entry["workload"], *_setting(entry, apart)])
        if "skipped" not in entry
        else entry["workload"]
        for entry in entries
    ]


def _setting(entry: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    words = [_in_words(name, entry.get(name)) for name in names]
    words = [word for word in words if word]
    return [", ".join(words)] if words else []


def setting(entry: Mapping[str, Any]) -> str:
    """What a latency holds for: "AMD EPYC, float32, torch 2.15 eager, 2 threads"."""
    told = {name: entry.get(name) for name in SETTING}
    if told["threads"] is None:  # an accelerator
        del told["threads"]
    if told["neighbours"] == 0:
        del told["neighbours"]
    if told["dense_runtime"] is None:
        del told["dense_runtime"]
    return ", ".join(_in_words(name, value) for name, value in told.items())


def _in_words(name: str, value: Any) -> str:
    """A part of the setting: "2 threads", "beside 1 other job"."""
    match name:
        case "dense_runtime":
            return f"against {value}" if value else ""
        case "threads":
            return f"{value} thread" + "s" * (value != 1)
        case "neighbours":
            if value is None:
                return "beside jobs unknown"
            return f"beside {value} other job" + "s" * (value != 1) if value else "alone"
    return str(value)


def latency_row(label: str, entry: Mapping[str, Any]) -> Row:
    if "skipped" in entry:
        return label, "", "", f"not measured: {entry['skipped']}"
    before, after = entry["dense"]["p50"], entry["compressed"]["p50"]
    return label, f"{before:.2f} ms", f"{after:.2f} ms", speed_up(**entry["speed_up"])


def speed_up(p50: float, low: float, high: float) -> str:
    """In words: dense / compressed seconds and its interval, told only beyond the noise."""
    if low > 1 and p50 > 1 + NOISE:
        return f"{p50:.2f}× faster"
    if high < 1 and p50 < 1 / (1 + NOISE):
        return f"{1 / p50:.2f}× slower"
    return "no speed-up"


def notes(record: Record) -> Iterator[str]:
    """What must be known to read the table."""
    budget = record["budget"]
    if not methods(record):
        yield "dense model; nothing was compressed"
    elif not budget["pair_equal"]:
        yield (
            f"not an equal pair: {budget['total']} training steps here, "
            f"{sum(budget['twin'])} of the dense model"
        )
    if budget["unspent"]:
        yield f"{budget['unspent']} steps of the budget unspent: no stage needs them"
    yield from attention_notes(record["compute"])
    modelled = record["compute"]["modelled"]
    if modelled:
        yield f"modelled by {modelled['by']}: {modelled['figure']}"
    devices = {
        tuple(entry.get(name) for name in SETTING)
        for entry in honest(record["speed"])
        if "skipped" not in entry
    }
    for values in sorted(devices, key=str):
        yield f"measured on {setting(dict(zip(SETTING, values, strict=True)))}"
    told = (note for entry in record["speed"] for note in entry.get("notes", ()))
    yield from dict.fromkeys(told)


def check_lines(checks: list[Mapping[str, Any]]) -> Iterator[str]:
    """One line for all checks that passed, one for each that failed."""
    passed = [check["name"] for check in checks if check["passed"]]
    if passed:
        more = f" and {len(passed) - NAMED} more" if len(passed) > NAMED else ""
        plural = "s" * (len(passed) != 1)
        yield f"✓ {len(passed)} check{plural} passed: {', '.join(passed[:NAMED])}{more}"
    for check in checks:
        if not check["passed"]:
            yield f"✗ {check['name']}: {check['figure']}"


def metric(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"


def difference(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{after - before:+.4f}"


def relative(before: float, after: float) -> str:
    return f"{100 * (after / before - 1):+.1f}%" if before else ""


def share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f}% of the dense" if whole else ""


def amount(count: float) -> str:
    """A count with its SI prefix: 1.23 G."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.2f} {prefix}"
    return f"{count:g}"
