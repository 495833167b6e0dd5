"""What benchmarks/attention.py prints and writes into docs/sparse-attention.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from running import ROOT, between

PAGE = ROOT / "docs" / "sparse-attention.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
WAYS = ("masked", "gather", "flex", "flex, whole tiles")


def shown(point: Mapping[str, Any]) -> list[str]:
    """One point, for the terminal."""
    head = f"\n{point['tokens']} tokens, keep {point['keep']} ({point['keys']} keys)"
    if "skipped" in point:
        return [f"{head}: {point['skipped']}"]
    lines = [f"{head}, {point['turns']} turns{'':6}ms   with map   times dense's speed"]
    lines.append(f"  {'dense':<28}{point['dense_ms']:10.2f}")
    lines += [f"  {name:<28}{each:10.2f}" for name, each in point["maps_ms"].items()]
    for way, each in point["ways"].items():
        times = f"{each['attending_ms']:10.2f}{each['with_map_ms']:11.2f}"
        lines.append(f"  {way:<28}{times}   {interval(each['with_map_over_dense'])}")
    lines += [f"  {way:<28}left out, {why}" for way, why in point.get("left_out", {}).items()]
    return lines


def interval(ratio: Mapping[str, float]) -> str:
    return f"{ratio['p50']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def crossovers(points: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, int | None]]]:
    """Way -> budget -> the fewest tokens from which on it is faster than dense attention, with its
    map and without; None: it is not at the most tokens at which it was measured."""
    measured = [each for each in points if "ways" in each]
    found: dict[str, dict[str, dict[str, int | None]]] = {way: {} for way in WAYS}
    for way in WAYS:
        for keep in dict.fromkeys(each["keep"] for each in measured):
            of = sorted(
                (each for each in measured if each["keep"] == keep and way in each["ways"]),
                key=lambda each: each["tokens"],
            )
            found[way][keep] = {
                what: first_faster([(p["tokens"], p["ways"][way][key]["low"]) for p in of])
                for what, key in (
                    ("with the map", "with_map_over_dense"),
                    ("attending alone", "attending_over_dense"),
                )
            }
    return found


def first_faster(lows: Sequence[tuple[int, float]]) -> int | None:
    """Of (tokens, lower end of the ratio) in rising order, from where on all are above 1."""
    first = None
    for tokens, low in lows:
        first = (tokens if first is None else first) if low > 1 else None
    return first


def sentences(result: Mapping[str, Any]) -> list[str]:
    """The crossovers in plain words."""
    most = max((p["tokens"] for p in result["points"] if "ways" in p), default=0)
    lines = []
    for way, budgets in result["crossovers"].items():
        told = {
            what: ", ".join(f"{keep}: {from_(each[what], most)}" for keep, each in budgets.items())
            for what in ("with the map", "attending alone")
        }
        lines.append(f"- **{way}**, map included: {told['with the map']}. The map given:")
        lines.append(f"  {told['attending alone']}")
    return lines


def from_(tokens: int | None, most: int) -> str:
    return f"none up to {most:,}" if tokens is None else f"{tokens:,}"


def table(result: Mapping[str, Any]) -> list[str]:
    lines = [
        "| tokens | heads | budget | dense | map of keys | masked | gather | flex | map of tiles "
        "| flex, whole tiles |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for p in result["points"]:
        head = f"| {p['tokens']:,} | {p['heads']} | {p['keep']} ({p['keys']:,})"
        if "skipped" in p:
            lines.append(f"{head} | {p['skipped']} | | | | | | |")
            continue
        cells = {
            way: f"{each['attending_ms']:.1f} · {each['with_map_over_dense']['p50']:.2f}×"
            for way, each in p["ways"].items()
        }
        cells |= p.get("left_out", {})
        maps = p["maps_ms"]
        lines.append(
            f"{head} | {p['dense_ms']:.1f} | {maps['map of keys']:.1f} | {cells['masked']} "
            f"| {cells['gather']} | {cells['flex']} | {maps['map of tiles']:.1f} "
            f"| {cells['flex, whole tiles']} |"
        )
    return lines


def write_page(result: Mapping[str, Any]) -> None:
    load = result["load_average"]
    between(
        PAGE,
        BEGIN,
        END,
        [
            "",
            f"{result['device']}, {result['threads']} threads, {result['dtype']}, torch "
            f"{result['versions']['torch']}, {result['date']}; load average of the machine "
            f"{load['before'][0]} before and {load['after'][0]} after, on {result['cpus']} cores.",
            "Milliseconds of attending with the map given · how many times as fast as dense",
            "attention with the map included (below 1: slower).",
            "",
            *table(result),
            "",
            "The fewest tokens from which on a way is faster than dense attention, by budget:",
            "",
            *sentences(result),
            "",
        ],
    )
