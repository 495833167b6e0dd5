"""What INT8 and 2:4 gain in time: DeiT-S of random weights and real shapes (224 x 224 pixels).

    python benchmarks/vit_speed.py                  # the CPU: about 5 minutes
    python benchmarks/vit_speed.py --preset gpu     # tensor cores; no run on a GPU so far

CPU: the dense model in torch eager, by torch.compile (for each batch size by itself) and in ONNX
Runtime, all in float32, and the INT8 model in ONNX Runtime, taking turns call by call. The INT8
model is 2:4, then quantised after training by the largest of random images: accuracy plays no part,
times do not depend on the values. Target: at batch 8, 1.5 times the throughput of the best float32
path on a machine with VNNI. Then one profile of ONNX Runtime says which operators the time goes to.

GPU: each matrix product of the model by itself, dense and 2:4, in bfloat16 and int8, at M = 197 B
rows; and the model end to end. Targets: 1.2 times for each product at M >= 4096, 1.1 times end to
end.

Times of a machine that others use are noisy: turns meet all alike, but torch's OpenMP threads wait
for each other actively and lose most. Quote a run on a quiet machine. Writes
benchmarks/results/vit_speed-<device>.json.
"""

import argparse
import copy
import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from gossamer.contract import Fact
from gossamer.export.agreement import agreement
from gossamer.export.onnx import Onnx, packed_layers
from gossamer.measure import cores, int8, semi_structured
from gossamer.measure.deployed import COMPILED, in_onnx, no_compiler
from gossamer.measure.onnx_runtime import INTEGER, Session, integer_products, runtime
from gossamer.measure.speed import device_name, in_torch, interleaved, paired_ratio, told
from gossamer.quantization.fake import fake_quantized
from gossamer.quantization.observers import observer
from gossamer.quantization.packed import PackedLinear
from gossamer.sparsity.patterns import parse

ROOT = Path(__file__).parent.parent
MODEL, SHAPE, TOKENS = "deit_small_patch16_224", (3, 224, 224), 197
TARGET, TARGET_BATCH = 1.5, 8
SPARSE_TARGET, SPARSE_ROWS, WHOLE_TARGET = 1.2, 4096, 1.1
DENSE = "fp32 torch eager"
INT8 = "int8 ONNX Runtime"
GPU_BATCHES = (8, 32, 128)


def dense() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(MODEL).eval().requires_grad_(False)


def images(rows: int) -> torch.Tensor:
    return torch.randn(rows, *SHAPE, generator=torch.Generator().manual_seed(rows))


@torch.no_grad()
def quantized(model: nn.Module) -> nn.Module:
    """A copy, 2:4 and INT8 in the blocks' linear layers and the patch embedding."""
    small = copy.deepcopy(model)
    layers = {
        path: layer
        for path, layer in small.named_modules()
        if isinstance(layer, nn.Conv2d) or (isinstance(layer, nn.Linear) and "blocks" in path)
    }
    seen = {path: observer("max", 8) for path in layers}
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, path=path: seen[path].add(given[0]))
        for path, layer in layers.items()
    ]
    small(images(16))
    for hook in hooks:
        hook.remove()
    for path, layer in layers.items():
        weight = layer.weight.flatten(1)
        weight *= parse("2:4").mask(weight.abs(), None)
        fake = fake_quantized(layer, 8)  # type: ignore[arg-type]
        fake.input_amax.copy_(seen[path].amax())
        parent, _, name = path.rpartition(".")
        setattr(small.get_submodule(parent), name, fake.packed())
    return small.eval()


def on_cpu(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(args.threads)
    model = dense()
    small = quantized(model)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = {
            "fp32": Onnx().write(model, {"x": images(2)}, folder / "fp32.onnx"),
            "int8": Onnx().write(small, {"x": images(2)}, folder / "int8.onnx"),
        }
        session = Session(files["int8"], optimized=folder / "optimized.onnx")
        agrees = {
            "fp32": agreement("fp32", model, Session(files["fp32"]), {"x": images(8)}),
            "int8": agreement("int8", small, session, {"x": images(8)}),
        }
        result: dict[str, Any] = {
            "quantised_layers": len(packed_layers(small)),
            "integer_products": integer_products(folder / "optimized.onnx"),
            "file_bytes": {name: path.stat().st_size for name, path in files.items()},
            "agrees_with_torch": {name: check.figure for name, check in agrees.items()},
            "batches": {},
        }
        contenders = {
            DENSE: in_torch(model),
            "fp32 ONNX Runtime": in_onnx(files["fp32"]),
            INT8: in_onnx(files["int8"]),
        }
        if reason := no_compiler():
            result["skipped"] = {"fp32 torch.compile": reason}
        else:
            compiled = torch.compile(model, dynamic=False)
            contenders["fp32 torch.compile"] = in_torch(model, COMPILED, compiled)
        for rows in args.batch:
            result["batches"][rows] = entry = in_turns(contenders, rows, args)
            show(rows, entry)
        result["profile_batch_8"] = profile(files, folder)
    reached = result["batches"].get(TARGET_BATCH, {}).get("int8_over_best_fp32")
    if reached:
        met = reached["p50"] >= TARGET
        result["target"] = {"batch": TARGET_BATCH, "at_least": TARGET, **reached, "met": met}
    return result


def in_turns(contenders: Mapping[str, Any], rows: int, args: argparse.Namespace) -> dict[str, Any]:
    inputs = {"x": images(rows)}
    calls = {name: each.call for name, each in contenders.items()}
    timings = interleaved(
        calls, inputs, device="cpu", warmup=2, repeats=args.repeats, seconds=args.seconds
    )
    figures = {name: told(each, inputs, timings[name]) for name, each in contenders.items()}
    best = min((name for name in figures if name != INT8), key=lambda name: figures[name]["p50"])
    return {
        "turns": len(timings[INT8].seconds),
        "runtimes": {name: rounded(figure) for name, figure in figures.items()},
        "best_fp32": best,
        "int8_over_best_fp32": rounded(paired_ratio(timings[best], timings[INT8])),
        "int8_over": {
            name: rounded(paired_ratio(timings[name], timings[INT8]))["p50"]
            for name in figures
            if name != INT8
        },
    }


def show(rows: int, entry: Mapping[str, Any]) -> None:
    print(f"\nbatch {rows}, {entry['turns']} turns{'':14}p50 ms   p95 ms  images/s  peak MB")
    for name, each in sorted(entry["runtimes"].items(), key=lambda item: item[1]["p50"]):
        peak = each["peak_memory_bytes"]
        memory = "-" if peak is None else f"{peak / 1e6:.0f}"
        times = f"{each['p50']:9.1f}{each['p95']:9.1f}{each['throughput']:10.1f}"
        print(f"  {name:<28}{times}{memory:>9}")
    ratio = entry["int8_over_best_fp32"]
    interval = f"[{ratio['low']:.2f}, {ratio['high']:.2f}]"
    print(f"  INT8 over {entry['best_fp32']}: {ratio['p50']:.2f} times {interval}")


def profile(files: Mapping[str, Path], folder: Path) -> dict[str, dict[str, float]]:
    """The operators' share of ONNX Runtime's time, in percent, one batch of 8 at a time."""
    import onnxruntime

    shares = {}
    for name, path in files.items():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.enable_profiling, options.profile_file_prefix = True, str(folder / name)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for _ in range(5):
            session.run(None, {"x": images(8).numpy()})
        spent: Counter[str] = Counter()
        for event in json.loads(Path(session.end_profiling()).read_text()):
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                spent[event["args"]["op_name"]] += event["dur"]
        whole = sum(spent.values())
        shares[name] = {
            operator: round(100 * time / whole, 1) for operator, time in spent.most_common(8)
        }
        integer = sum(time for operator, time in spent.items() if operator in INTEGER)
        shares[name]["all integer products"] = round(100 * integer / whole, 1)
        print(f"\n{name}, percent of the time: {shares[name]}")
    return shares


def on_gpu(args: argparse.Namespace) -> dict[str, Any]:
    if not torch.cuda.is_available():
        return {
            "skipped": "no CUDA device: 2:4 and int8 products on tensor cores were not measured"
        }
    model = dense()
    small = quantized(model)
    shapes = {
        path.removeprefix("blocks.0."): layer
        for path, layer in packed_layers(small).items()
        if path.startswith("blocks.0.") and isinstance(layer, PackedLinear)
    }
    products = [
        product(name, layer, rows, args) for name, layer in shapes.items() for rows in GPU_BATCHES
    ]
    workloads = {f"batch {rows}": {"x": images(rows)} for rows in GPU_BATCHES}
    facts = [
        Fact(path, tuple(layer.shape), layer.pattern)
        for path, layer in packed_layers(small).items()
    ]
    sparse = cores.on_sparse(model, small, workloads, semi_structured.sparse_layers(facts))
    whole = sparse + cores.on_integer(model, small, workloads)
    large = [each for each in products if each["M"] >= SPARSE_ROWS and "bf16_2_to_4" in each]
    return {
        "products": products,
        "end_to_end": whole,
        "target": {
            "product_at_least": SPARSE_TARGET,
            "products_met": [each["bf16_2_to_4"]["p50"] >= SPARSE_TARGET for each in large],
            "end_to_end_at_least": WHOLE_TARGET,
            "end_to_end_met": [
                each["speed_up"]["p50"] >= WHOLE_TARGET for each in sparse if "skipped" not in each
            ],
        },
    }


def product(name: str, layer: PackedLinear, batch: int, args: argparse.Namespace) -> dict[str, Any]:
    """One linear layer by itself: each form's speed-up over the dense product in bfloat16."""
    plain = cores.plain(nn.Sequential(layer)).to("cuda", torch.bfloat16)
    sparse, packed = copy.deepcopy(plain), copy.deepcopy(layer).cuda()
    left = semi_structured.compress(sparse, ["0"])
    forms: dict[str, Any] = {"dense": plain[0], "int8": int8.Int8Linear(packed)}
    skipped = {f"bf16_2_to_4: {why}" for why in left.values()}
    if not left:
        forms["bf16_2_to_4"] = sparse[0]
    if why := int8.densely(packed):
        skipped.add(f"int8_2_to_4: {why}")
    else:
        forms["int8_2_to_4"] = int8.Int8Linear(packed, sparse=True)
    x = torch.randn(TOKENS * batch, layer.in_features, device="cuda", dtype=torch.bfloat16)
    calls = {form: (lambda x, made=made: made(x)) for form, made in forms.items()}
    timings = interleaved(calls, {"x": x}, device="cuda", warmup=10, repeats=args.repeats * 5)
    ratios = {
        form: rounded(paired_ratio(timings["dense"], timing))
        for form, timing in timings.items()
        if form != "dense"
    }
    shape = {"layer": name, "out": layer.out_features, "in": layer.in_features, "M": len(x)}
    dense_ms = round(timings["dense"].latency_ms["p50"], 4)
    found = {**shape, "dense_bf16_ms": dense_ms, **ratios, "skipped": sorted(skipped)}
    print(found)
    return found


def rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: round(value, 3) if isinstance(value, float) else value
        for key, value in figures.items()
    }


def instructions() -> list[str]:
    """Those of the processor that integer products use."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return sorted(words & {"avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=20, help="turns for each batch size")
    parser.add_argument("--seconds", type=float, default=60.0, help="of turns, at least six turns")
    args = parser.parse_args()
    result = on_cpu(args) if args.preset == "cpu" else on_gpu(args)
    told_of = {
        "model": f"timm {timm.__version__} {MODEL}, random weights",
        "device": device_name(
            "cuda" if args.preset == "gpu" and "skipped" not in result else "cpu"
        ),
        "instructions": instructions(),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "load_average": [round(each, 1) for each in os.getloadavg()],
        "torch": torch.__version__,
        "onnxruntime": runtime(),
        "date": date.today().isoformat(),
    }
    result = {**told_of, **result}
    if "target" in result:
        print(f"\ntarget: {result['target']}")
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    path = folder / f"vit_speed-{args.preset}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
