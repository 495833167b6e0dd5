"""What a configuration costs, ledger by ledger, and which of many costs least."""

from collections.abc import Sequence

from gossamer.records.figures import figure, honest_speed_ups
from gossamer.records.report.estimates import to_twin
from gossamer.records.report.groups import Group
from gossamer.records.table import speed_up

SAME = 0.01  # ledgers that differ by less than this share are called equal


def cost(group: Group, name: str = "") -> str:
    """The ledgers of one configuration, each by its name; a gain in none is said first. `name`: of
    the configuration, where the sentence must say whom it is about."""
    stored = ratio(group, "size.checkpoint_bytes", "size.dense_checkpoint_bytes")
    done = ratio(group, "compute.macs_effective", "compute.macs_dense")
    theory = ratio(group, "compute.macs_nonzero", "compute.macs_dense")
    timed = told_speed_ups(group)
    told = ", ".join(f"{word} at {name}" for name, word in timed.items())
    faster = any("faster" in word for word in timed.values())
    gain = stored < 1 - SAME or done < 1 - SAME or faster
    trained = ratio(group, "size.trainable_parameters", "size.dense_parameters")
    parts = [
        f"{mean(group, 'size.checkpoint_bytes') / 1e6:.2f} MB on disk ({percent(stored)})",
        f"MACs executed {percent(done)}",
        f"measured {told}" if timed else "latency not measured for every seed",
    ]
    if theory < done - SAME:
        parts.insert(2, f"MACs of non-zeros {percent(theory)} (theory only)")
    parts += _by_format(group) + _of_attention(group)
    nothing = f"Nothing of {name} is smaller or faster" if name else "Nothing is smaller or faster"
    whose = f"The cost of {name}" if name else "Its cost"
    return (
        f"{whose if gain else nothing}: {'; '.join(parts)}. "
        f"Shares are of the dense model; it trained {percent(trained)} of the parameters."
    )


def _by_format(group: Group) -> list[str]:
    """The rules by which papers count what is quantised or in N:M, where every run has them."""
    parts = []
    for name, dense, told in (
        ("size.format_bytes", "size.dense_format_bytes", "storage by format {:.2f}× smaller"),
        ("compute.bit_operations", "compute.bit_operations_dense", "bit operations {:.2f}× fewer"),
    ):
        after, before = (figure(group.seeds, n, None)["value"] for n in (name, dense))
        if after and before:
            parts.append(told.format(before / after) + " (theory only)")
    return parts


def _of_attention(group: Group) -> list[str]:
    """What choosing the keys saves by closed form, where every run has it: of attention's products,
    and of the whole model."""
    names = ("attention_saved", "attention_saved_of_model", "attention_density")
    saved, of_model, kept = (figure(group.seeds, f"compute.{n}", None)["value"] for n in names)
    if saved is None or of_model is None or kept is None:
        return []
    tiles = figure(group.seeds, "compute.attention_block_density", None)["value"]
    of_tiles = "" if tiles is None else f", {percent(tiles)} of its 128 × 128 tiles"
    costs = ", for choosing the keys takes more than it saves" if saved < 0 and kept < 1 else ""
    return [
        f"attention MACs {-100 * saved:+.1f}%{costs}, which is {-100 * of_model:+.1f}% of the "
        f"whole model's (theory only); {percent(kept)} of the attention map kept{of_tiles}"
    ]


def bargains(best: Group, ranked: Sequence[Group]) -> list[str]:
    """The smallest that is not shown to lose, and the fastest that was measured."""
    lines = []
    level = [group for group in ranked if _holds(group)]
    least = min(level, key=lambda group: mean(group, "size.checkpoint_bytes"), default=None)
    share = ratio(least, "size.checkpoint_bytes", "size.dense_checkpoint_bytes") if least else 1.0
    if least is not None and least is not best and share < 1 - SAME:
        found = to_twin(least)
        assert found is not None
        size = mean(least, "size.checkpoint_bytes") / 1e6
        lines.append(
            f"Smallest without a shown loss: {least.label}, {size:.2f} MB on disk "
            f"({percent(share)}), {found.change()}."
        )
    timed = [(group, honest_speed_ups(group.seeds)) for group in ranked]
    fastest = [
        (ups["p50"], group, name)
        for group, each in timed
        for name, ups in each.items()
        if "faster" in speed_up(**ups)
    ]
    if fastest:
        up, group, name = max(fastest, key=lambda entry: entry[0])
        found = to_twin(group)
        lost = f", {found.change()}" if found else ""
        if group is not best:
            lines.append(f"Fastest measured: {group.label}, {up:.2f}× at {name}{lost}.")
    elif any(each for _, each in timed):
        lines.append("No configuration is measured to be faster than its dense twin.")
    return lines


def _holds(group: Group) -> bool:
    """Whether several seeds show no loss. Seeds that all lose exactly as much are no such case."""
    found = to_twin(group)
    if found is None or found.half is None:
        return False
    sign = 1 if group.scope.direction == "max" else -1
    return found.shown() * sign >= 0 and (found.p is not None or found.mean * sign >= 0)


def told_speed_ups(group: Group) -> dict[str, str]:
    """Measured speed-ups in words, by the rules of the end-of-run table."""
    found = {}
    for label, ups in honest_speed_ups(group.seeds).items():
        word = speed_up(**ups)
        interval = f" [{ups['low']:.2f}, {ups['high']:.2f}]"
        found[label] = word if word == "no speed-up" else word + interval
    return found


def ratio(group: Group, part: str, whole: str) -> float:
    dense = mean(group, whole)
    return mean(group, part) / dense if dense else 1.0


def mean(group: Group, name: str) -> float:
    """Of a ledger's figure, which every finished run has."""
    return figure(group.seeds, name, None)["value"]


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"
