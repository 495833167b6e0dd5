"""What benchmarks/sparsifiner.py says: the rows of its result, and the tables of its page."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from sparsifiner_arms import BOTH, KEEPS, LEARNED, MEAN, ORACLE, RANDOM, SETS, TOKENS, Arm

from gossamer.records.intervals import mean_interval

LOOK_UP, TRAINED = "look-up", "trained"


def summarise(arm: Arm, told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over the seeds: top-1 accuracy in %, that of the dense twin, the attention that is kept, and
    MACs as shares of the dense model's."""
    compute = [one["compute"] for one in told]
    dense = fmean(one["macs_dense"] for one in compute)
    row: dict[str, Any] = {
        "dataset": arm.dataset,
        "part": arm.part,
        "keep": arm.keep,
        "arm": arm.name,
        "words": list(arm.words),
        "steps": arm.steps,
        "accuracy": _percent(one["quality"]["compressed"]["accuracy"] for one in told),
        "twin": _percent(one["quality"]["dense"]["accuracy"] for one in told),
        "seeds": len(told),
    }
    row["accuracies"], row["twins"] = (
        [100 * one["quality"][side]["accuracy"] for one in told] for side in ("compressed", "dense")
    )
    attention = [one["attention_macs"] for one in compute]
    before = fmean(one["attention_macs_dense"] for one in compute)
    row["attention"] = fmean(attention) / before
    # what the tokens that are gone save is executed; what a map drops is not, and is theory
    executed = fmean(one["macs_effective"] for one in compute) if arm.name == TOKENS else None
    saved = before - fmean(attention)
    row["model"] = executed / dense if executed else 1 - saved / dense
    if arm.name == BOTH:
        row["model"] = None  # the counted operations hold the dense products of what is left
    figures = [recalled(one) for one in told]
    for name in ("recall", "oracle recall", "static recall", "random recall"):
        values = [one[name] for one in figures if name in one]
        row[name] = fmean(values) if values else None
    return row


def recalled(record: Mapping[str, Any]) -> dict[str, float]:
    """Mean over layers of each kind of recall that the latest stage found."""
    found: dict[str, list[float]] = {}
    for stage in record["stages"]:
        if stage["figures"]:
            found = {}
        for name, value in stage["figures"].items():
            if "recall" in name:
                found.setdefault(name.rpartition(" ")[0], []).append(value)
    return {name: fmean(values) for name, values in found.items()}


def dense_of(rows: Iterable[Mapping[str, Any]], dataset: str) -> list[float]:
    """Accuracies of the dense base as it is, a value for each seed: what an arm that trains nothing
    is paired with; the better of it and of the continued twin."""
    mine = [row for row in rows if row["dataset"] == dataset]
    return [max(values) for values in zip(*(row["twins"] for row in mine), strict=True)]


def _percent(values: Iterable[float]) -> list[float | None]:
    return list(mean_interval([100 * value for value in values]))


def page(result: Mapping[str, Any]) -> list[str]:
    rows = result["rows"]
    lines = ["", result["setting"], ""]
    lines += look_up(rows)
    for dataset, name in SETS.items():
        lines += trained(rows, dataset, name)
    return [*lines, *expected(rows), ""]


def look_up(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    mine = [row for row in rows if row["part"] == LOOK_UP]
    dense = mean_interval(dense_of(rows, "match_to_sample"))
    lines = [
        "**Look-up**: match-to-sample, the backbone as it is, the same budget of keys for all. "
        f"Top-1 in %; dense {_pm(dense)}, chance 16.7; in brackets the share of attention kept.",
        "",
        "| keys kept | " + " | ".join(f"{keep:g}" for keep in KEEPS) + " |",
        "|---|" + "---|" * len(KEEPS),
    ]
    for arm in dict.fromkeys(row["arm"] for row in mine):
        cells = [
            f"{_pm(row['accuracy'])} ({row['recall']:.2f})"
            for keep in KEEPS
            for row in mine
            if row["arm"] == arm and row["keep"] == keep
        ]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def trained(rows: Sequence[Mapping[str, Any]], dataset: str, name: str) -> list[str]:
    mine = [row for row in rows if row["part"] == TRAINED and row["dataset"] == dataset]
    if not mine:
        return []
    dense = dense_of(rows, dataset)
    lines = [
        f"**{name}**, the backbone trained on; dense {_pm(mean_interval(dense))} (the better of "
        "base and continued twin, seed by seed). MACs are theory, token pruning's are executed.",
        "",
        "| keep | | top-1, % | against dense, points | attention MACs | MACs of the model | "
        "attention kept (largest) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in mine:
        kept = "–"
        if row["recall"] is not None:
            kept = f"{row['recall']:.2f} ({row['oracle recall']:.2f})"
        model = "–" if row["model"] is None else f"{100 * row['model']:.1f} %"
        lines.append(
            f"| {row['keep']:g} | {row['arm']} | {_pm(row['accuracy'])} "
            f"| {_pm(_change(row, dense), '+')} | {100 * row['attention']:.1f} % | {model} "
            f"| {kept} |"
        )
    return [*lines, ""]


def expected(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was expected, and what is seen."""

    def row(part: str, dataset: str, keep: float, arm: str) -> Mapping[str, Any]:
        return next(
            one
            for one in rows
            if (one["part"], one["dataset"], one["keep"], one["arm"]) == (part, dataset, keep, arm)
        )

    def said(what: str, figure: str, held: bool) -> str:
        return f"- {what}: {figure}; {'held' if held else '**missed**'}"

    match = "match_to_sample"
    learned = row(LOOK_UP, match, 0.25, LEARNED)["accuracy"][0]
    lines = ["What was expected:", ""]
    for arm in (MEAN, RANDOM):
        gap = learned - row(LOOK_UP, match, 0.25, arm)["accuracy"][0]
        lines.append(
            said(f"look-up at keep 0.25, at least 30 points over {arm}", f"{gap:+.1f}", gap >= 30)
        )
    bound = row(LOOK_UP, match, 0.25, ORACLE)["accuracy"][0] - learned
    lines.append(said("… and no more than the oracle", f"{-bound:+.1f}", bound >= 0))
    drop = _change(row(TRAINED, match, 0.25, LEARNED), dense_of(rows, match))[0]
    lines.append(
        said("match-to-sample within 2 points of dense once distilled", f"{drop:+.2f}", drop >= -2)
    )
    for dataset in [name for name in SETS if name != match]:
        dense = dense_of(rows, dataset)
        for keep in KEEPS:
            one = row(TRAINED, dataset, keep, LEARNED)
            change, less = _change(one, dense)[0], 100 * (1 - one["attention"])
            lines.append(
                said(
                    f"{SETS[dataset]}, keep {keep:g}: within 0.4 points of dense",
                    f"{change:+.2f} at {less:.0f} % fewer attention MACs",
                    change >= -0.4,
                )
            )
            other = row(TRAINED, dataset, keep, TOKENS)
            gain = one["accuracy"][0] - other["accuracy"][0]
            lines.append(
                said(
                    "… better than token pruning at the same MACs of the model",
                    f"{gain:+.2f} points, {100 * one['model']:.1f} % against "
                    f"{100 * other['model']:.1f} %",
                    gain > 0,
                )
            )
    return lines


def _change(row: Mapping[str, Any], dense: Sequence[float]) -> tuple[float, float | None]:
    pairs = zip(row["accuracies"], dense, strict=True)
    return mean_interval([after - before for after, before in pairs])


def _pm(pair: Sequence[float | None], sign: str = "") -> str:
    value, half = pair
    return f"{value:{sign}.2f}" + ("" if half is None else f" ± {half:.2f}")
