"""Records for the tests: a whole one, of a made-up but possible run."""

import copy
from typing import Any

TIMES = {"p50": 10.0, "p95": 11.0, "throughput": 100.0, "peak_memory_bytes": 1_000_000}

HEAD: dict[str, Any] = {
    "schema": 2,
    "id": "abcdef012345-s1",
    "name": "minilm-docstrings-dsee",
    "status": "done",
    "started": "2026-01-01T00:00:00+00:00",
    "finished": "2026-01-01T00:05:00+00:00",
    "seed": 1,
    "overrides": ["model=minilm", "compression=dsee"],
    "config_digest": "abcdef0123456789",
    "git": {"commit": None, "dirty": None},
    "host": "somewhere",
    "device": "a processor",
    "versions": {"torch": "2.15.0", "peft": None},
    "choices": {
        "model": "minilm",
        "dataset": "docstrings",
        "task": "classification",
        "compression": ["dsee"],
    },
    "sweep": None,
    "config": {"seed": 1, "trainer": {"steps": 150, "lr": 5e-05}},
}


def done(**changes: Any) -> dict[str, Any]:
    """A finished run's record; `changes` name fields by path: quality__compressed__accuracy=0.9."""
    record = copy.deepcopy(HEAD) | {
        "budget": {
            "start": "trained",
            "base": 150,
            "steps": 150,
            "unspent": 0,
            "twin": [150, 100, 50],
            "total": 300,
            "pair_equal": True,
            "teacher_passes": 0,
            "twin_export": "../../../base/0123456789abcdef/export",
        },
        "stages": [
            {
                "name": "dsee.train",
                "seconds": 12.5,
                "steps": 150,
                "trainable_parameters": 1000,
                "teacher_passes": 0,
                "quality_before": {"accuracy": 0.5},
                "quality_after": {"accuracy": 0.75},
            }
        ],
        "quality": {
            "dense": {"accuracy": 0.8, "loss": 0.5},
            "compressed": {"accuracy": 0.78, "loss": 0.55},
            "primary": "accuracy",
            "direction": "max",
            "predictions": {"dense": None, "compressed": None},
            "split": "test",
        },
        "size": {
            "parameters": 90_000,
            "dense_parameters": 100_000,
            "trainable_parameters": 500,
            "nonzero_parameters": 50_000,
            "bits_per_weight": 32.0,
            "checkpoint_bytes": 360_000,
            "dense_checkpoint_bytes": 400_000,
            "state_bytes": 0,
        },
        "compute": {
            "macs_dense": 2_000_000,
            "macs_effective": 1_500_000,
            "macs_nonzero": 1_000_000,
            "counted_by": "FlopCounterMode",
            "workload": "batch 1",
            "modelled": None,
        },
        "speed": [
            {
                "workload": "batch 1",
                "device": "a processor",
                "dtype": "float32",
                "runtime": "torch",
                "threads": 2,
                "neighbours": 0,
                "warmup": 3,
                "repeats": 30,
                "speed_up": {"p50": 1.25, "low": 1.2, "high": 1.3},
                "compressed": {**TIMES, "p50": 8.0},
                "dense": dict(TIMES),
            },
            {"workload": "batch 32", "skipped": "does not fit"},
        ],
        "layers": [
            {
                "name": "encoder.layer.0.attention.self.query",
                "shape": [384, 384],
                "pattern": "unstructured",
                "target": 0.5,
                "density": 0.5,
                "bits": 32.0,
                "macs": 1000,
                "state_bytes": 0,
                "changed": True,
                "skipped": None,
                "method": "dsee",
            }
        ],
        "checks": [
            {"name": "reload equality", "passed": True, "figure": "0 of 10 logits differ"},
            {"name": "density", "passed": True, "figure": "0.5"},
        ],
        "artifacts": [{"path": "export/model.safetensors", "bytes": 360_000, "sha256": "0" * 64}],
    }
    return changed(record, **changes)


def attentive(**changes: Any) -> dict[str, Any]:
    """A finished run of a method that chose what attention sees, in two blocks: 48% of attention's
    MACs saved, which is 3.6% of the model; and nothing executed less."""
    record = done(
        choices__compression=["sparsifiner"],
        compute__macs_dense=4_000,
        compute__macs_effective=4_100,
        compute__macs_nonzero=4_100,
    )
    record["compute"] |= {
        "attention_macs": 156,
        "attention_macs_dense": 300,
        "attention_density": 0.2576,
        "attention_block_density": 0.93,
    }
    plain = record["layers"][0]
    maps = {"shape": [6, 197, 197], "pattern": "top keys", "target": 0.2576, "density": 0.2576}
    products = {"macs": 78, "dense_macs": 150, "block_density": 0.93, "method": "sparsifiner"}
    record["layers"] = [
        {**plain, "dense_macs": None, "block_density": None},
        *({**plain, "name": f"blocks.{n}.attn", **maps, **products} for n in range(2)),
    ]
    figures = {"recall 0": 0.5, "recall 1": 0.75, "oracle recall 0": 0.9, "oracle recall 1": 1.0}
    one_shot = {"name": "sparsifiner.sparsify", "steps": 0, "figures": {**figures, "found": 7.0}}
    record["stages"].append({**record["stages"][0], **one_shot})
    return changed(record, **changes)


def failed(status: str = "failed", **changes: Any) -> dict[str, Any]:
    record = copy.deepcopy(HEAD) | {"status": status, "error": "stage dsee.train: loss is nan"}
    return changed(record, **changes)


def changed(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = record
        for word in parents:
            place = place[word]
        place[last] = value
    return record
