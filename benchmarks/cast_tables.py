"""The tables of benchmarks/cast.py: one row for each arm, and what was to be expected of them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gossamer.records import record as records
from gossamer.records.intervals import mean_interval

DENSE = "dense, continued"
RETRAINED = ("fixed mask", "SR-STE", "AST", "AdamS", "AdamS + A", "CAST")
ONE_SHOT = ("magnitude", "Wanda", "SparseGPT")


def validation_loss(path: Path) -> float:
    """Nats per token on the validation split when the run's last stage had ended."""
    lines = map(json.loads, (path.parent / "metrics.jsonl").read_text().splitlines())
    return [line["validation/loss"] for line in lines if "validation/loss" in line][-1]


def interval(values: Sequence[float]) -> dict[str, float | None]:
    mean, half = mean_interval(values)
    return {"mean": mean, "half": half}


def summarise(name: str, lr: float, paths: Sequence[Path], dense: Sequence[Path]) -> dict[str, Any]:
    """One row: means and 95% t intervals over seeds; the gap is paired with dense, continued."""
    members = [records.read(path) for path in paths]
    others = [records.read(path) for path in dense]
    test = [member["quality"]["compressed"]["loss"] for member in members]
    gaps = [a - b["quality"]["compressed"]["loss"] for a, b in zip(test, others, strict=True)]
    row = {
        "arm": name,
        "lr": lr,
        "validation": interval([validation_loss(path) for path in paths]),
        "test": interval(test),
        "perplexity": math.exp(interval(test)["mean"]),
        "gap": interval(gaps),
        "steps": members[0]["budget"]["steps"],
        "records": [member["id"] for member in members],
    }
    stages = [member["stages"] for member in members]
    if stages[0] and stages[0][-1]["name"].endswith("prune") and stages[0][-1]["steps"] == 0:
        last = [one[-1] for one in stages]
        row["jump"] = interval(
            [s["quality_after"]["loss"] - s["quality_before"]["loss"] for s in last]
        )
        row["before pruning"] = [one[-2].get("figures", {}) for one in stages if len(one) > 1]
    return row


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    head = ["", "lr", "validation loss", "test loss", "test perplexity", "gap to dense, continued"]
    head.append("loss added by the final pruning")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        trained = row["steps"] > 0
        cells = [
            row["arm"],
            f"{row['lr']:g}" if trained else "",
            _told(row["validation"]),
            _told(row["test"]),
            f"{row['perplexity']:.2f}",
            "" if row["arm"] == DENSE else _told(row["gap"], sign=True),
            _told(row["jump"], sign=True) if trained and "jump" in row else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _told(value: dict[str, float | None], sign: bool = False) -> str:
    mean = f"{value['mean']:+.4f}" if sign else f"{value['mean']:.4f}"
    return mean + ("" if value["half"] is None else f" ± {value['half']:.4f}")


def expected(rows: Sequence[dict[str, Any]], budgets: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """What the paper leads one to expect, and whether it was seen (of means)."""
    loss = {row["arm"]: row["validation"]["mean"] for row in rows}
    gap = [one["gap"]["mean"] for one in budgets]
    cast = next(row for row in rows if row["arm"] == "CAST")
    return {
        "every one-shot arm is worse than every retrained one": min(loss[name] for name in ONE_SHOT)
        > max(loss[name] for name in RETRAINED),
        "CAST is below SR-STE in validation loss": loss["CAST"] < loss["SR-STE"],
        "CAST is below the fixed mask in validation loss": loss["CAST"] < loss["fixed mask"],
        "CAST's gap to dense, continued shrinks with the budget": gap == sorted(gap, reverse=True),
        "the final pruning adds less than a tenth of CAST's gap": cast["jump"]["mean"]
        < 0.1 * abs(cast["gap"]["mean"]),
    }


def page(told: dict[str, Any]) -> list[str]:
    lines = [told["setting"], ""]
    for result in told["results"]:
        lines += [f"**{result['pattern']}**", "", *table(result["rows"]), ""]
        lines += [
            "| tokens of training | CAST's gap to dense, continued (test loss) |",
            "|---|---|",
        ]
        lines += [
            f"| {one['tokens']:,} | {_told(one['gap'], sign=True)} |" for one in result["budgets"]
        ]
        lines += ["", "Expected, and what was seen:", ""]
        lines += [
            f"- {what}: {'yes' if seen else '**no**'}" for what, seen in result["expected"].items()
        ]
        lines.append("")
    return lines
