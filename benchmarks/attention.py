"""What attention with chosen keys takes beside dense attention, the map included.

    python benchmarks/attention.py                  # CPU: no full run so far
    python benchmarks/attention.py --preset gpu     # bfloat16; never run on a GPU

Tokens 197 and 577 (with a class token), 1024, 4096 and 16,384; heads of 64 numbers; budgets of a
quarter, a tenth and a twentieth of the keys, and of 64 keys whatever the tokens. Dense
scaled_dot_product_attention takes turns, call by call, with making the map (Sparsifiner's
predictor, of single keys and of whole tiles) and with attending by it: masked, gather, flex, and
flex on whole tiles. The time of a way is that of its map and of attending in the same turn; both
are told by themselves too. A way crosses over at the first number of tokens from which on it is
faster than dense, with the whole interval of the ratio above 1.

Long sequences are measured with fewer heads (CPU: 6, 6, 6, 2, 1): work goes with heads, so ratios
stand and milliseconds are those of the heads that are told. Flex on a CPU computes forward only, so
all times are of inference. Compilation is not in the times.

Writes benchmarks/results/attention-<preset>.json and, for the CPU, the table of
docs/sparse-attention.md, after each point. Times of a machine that others use are noisy: quote a
run on a quiet one. If there is none, --threads 1: threads wait for each other actively, and the
ways of many small steps lose most of all.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping
from datetime import date
from typing import Any

import torch
from attention_contenders import (
    Given,
    Shape,
    agreement,
    attends,
    coefficients,
    dense,
    gathered,
    given,
    maps,
)
from attention_contenders import map_by_module as by_module
from attention_tables import crossovers, sentences, shown, write_page
from running import RESULTS

from gossamer.measure.speed import Timing, device_name, interleaved, paired_ratio
from gossamer.revision import git_state
from gossamer.sparsity.attention import budget_of, tiled_budget

BUDGETS = {"0.25": 0.25, "0.1": 0.1, "0.05": 0.05, "64 keys": 64}
PRESETS: dict[str, dict[str, Any]] = {
    "cpu": {
        "device": "cpu",
        "dtype": torch.float32,
        "shapes": [
            Shape(197, 1, 6, 1),
            Shape(577, 1, 6, 1),
            Shape(1024, 0, 6, 1),
            Shape(4096, 0, 2, 1),
            Shape(16384, 0, 1, 1),
        ],
    },
    "gpu": {
        "device": "cuda",
        "dtype": torch.bfloat16,
        "shapes": [
            Shape(197, 1, 6, 64),
            Shape(577, 1, 6, 32),
            Shape(1024, 0, 6, 16),
            Shape(4096, 0, 6, 4),
            Shape(16384, 0, 6, 1),
        ],
    },
}
AGREE = 1024  # tokens up to which the ways are held against each other
BY_MODULE = 4096  # tokens up to which the map is also made as the module does: n³ / 6


def point(shape: Shape, name: str, preset: Mapping[str, Any], args: Any) -> dict[str, Any]:
    """One number of tokens and one budget: milliseconds and ratios of every way."""
    asked = BUDGETS[name]
    budget = int(asked) if asked >= 1 else budget_of(asked, shape.tokens)
    told: dict[str, Any] = {
        "tokens": shape.tokens,
        "prefix": shape.prefix,
        "heads": shape.heads,
        "batch": shape.batch,
        "keep": name,
        "keys": budget,
        "keys_in_tiles": tiled_budget(budget, shape.tokens, 128),
    }
    if reason := too_large(shape, preset["device"]):
        return told | {"skipped": reason}
    x = given(shape, budget, preset["device"], preset["dtype"])
    with torch.inference_mode():
        timings, needs = in_turns(x, budget, preset["device"], args)
        agrees = agreement(x, budget) if shape.tokens <= AGREE else None
    base = timings["dense"]
    told |= {"turns": len(base.seconds), "dense_ms": round(base.latency_ms["p50"], 3)}
    told["maps_ms"] = {
        name: round(timings[name].latency_ms["p50"], 3)
        for name in timings
        if name.startswith(("map", "low-rank"))
    }
    told["ways"] = {way: figures(base, timings[of], timings[way]) for way, of in needs.items()}
    if agrees:
        told["agreement"] = agrees
    if "gather" not in needs:
        size = gathered(x, budget) / 1e9
        told["left_out"] = {"gather": f"time: it would gather {size:.0f} GB in each call"}
    return told


def in_turns(
    x: Given, budget: int, device: str, args: Any
) -> tuple[dict[str, Timing], dict[str, str]]:
    ways = attends(x, budget)
    calls: dict[str, Any] = {"dense": lambda: dense(x), "low-rank scores": lambda: coefficients(x)}
    calls |= maps(x, budget)
    if x.q.shape[2] <= BY_MODULE:
        calls["map of keys, by the module"] = lambda: by_module(x)
    calls |= {name: call for name, (_, call) in ways.items()}
    timings = interleaved(
        {name: (lambda rows, call=call: call()) for name, call in calls.items()},
        {"rows": x.q},
        device=device,
        warmup=1,
        repeats=args.repeats,
        seconds=args.seconds,
    )
    return timings, {name: of for name, (of, _) in ways.items()}


def figures(base: Timing, making: Timing, attending: Timing) -> dict[str, Any]:
    both = tuple(a + b for a, b in zip(making.seconds, attending.seconds, strict=True))
    whole = Timing(both, base.rows)
    return {
        "attending_ms": round(attending.latency_ms["p50"], 3),
        "with_map_ms": round(whole.latency_ms["p50"], 3),
        "attending_over_dense": rounded(paired_ratio(base, attending)),
        "with_map_over_dense": rounded(paired_ratio(base, whole)),
    }


def rounded(ratio: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 3) for key, value in ratio.items()}


def too_large(shape: Shape, device: str) -> str | None:
    """Why a point is left out: SDPA's mask is n² floats for each head, its map n² bytes."""
    needed = 10 * shape.batch * shape.heads * shape.tokens**2
    if device == "cuda":
        free = torch.cuda.mem_get_info()[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed < free:
        return None
    return f"memory: about {needed / 1e9:.0f} GB for mask and map, {free / 1e9:.0f} GB are free"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=list(PRESETS), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, nargs="+", help="only these numbers of tokens")
    parser.add_argument("--budgets", nargs="+", choices=list(BUDGETS), default=list(BUDGETS))
    parser.add_argument("--repeats", type=int, default=30, help="turns of a point")
    parser.add_argument("--seconds", type=float, default=12.0, help="of turns, at least six turns")
    parser.add_argument("--print", action="store_true", help="write neither results nor page")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    if preset["device"] == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--preset gpu: there is no CUDA device; type --preset cpu")
    measured = [shape.tokens for shape in preset["shapes"]]
    if unknown := set(args.tokens or []) - set(measured):
        raise SystemExit(f"--tokens {min(unknown)}: choose from {', '.join(map(str, measured))}")
    torch.set_num_threads(args.threads)
    began, before = time.perf_counter(), os.getloadavg()
    points: list[dict[str, Any]] = []
    for shape in preset["shapes"]:
        for name in args.budgets:
            if not args.tokens or shape.tokens in args.tokens:
                points.append(point(shape, name, preset, args))
                print(*shown(points[-1]), sep="\n", flush=True)
                minutes = round((time.perf_counter() - began) / 60, 1)
                result = {**setting(preset, before), "minutes": minutes, **found(points)}
                if not args.print:  # what is measured is kept, if it ends here
                    written(result, args.preset)
    print(*sentences(result), sep="\n")


def setting(preset: Mapping[str, Any], load: tuple[float, ...]) -> dict[str, Any]:
    return {
        "device": device_name(preset["device"]),
        "dtype": str(preset["dtype"]).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "load_average": {
            "before": [round(each, 1) for each in load],
            "after": [round(each, 1) for each in os.getloadavg()],
        },
        "versions": {"torch": torch.__version__},
        "git": git_state()[0],
        "date": date.today().isoformat(),
    }


def found(points: list[dict[str, Any]]) -> dict[str, Any]:
    return {"crossovers": crossovers(points), "points": points}


def written(result: Mapping[str, Any], preset: str) -> None:
    path = RESULTS / f"attention-{preset}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    if preset == "cpu":
        write_page(result)


if __name__ == "__main__":
    main()
