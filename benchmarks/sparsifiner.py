"""Sparsifiner against static, random, oracle, low-rank and fewer-token attention.

    python benchmarks/sparsifiner.py --data FOLDER                at most 90 minutes on 2 CPU cores
    python benchmarks/sparsifiner.py --data FOLDER --preset gpu   all rows, and the shape of DeiT-S

FOLDER holds `fashion_mnist` and `cifar10` (train and test as parquet); match_to_sample is
generated. Two questions:

    look-up   match_to_sample, the backbone left as it is: what do the keys carry that each method
              keeps, all at the same budget of keys?
    trained   the backbone trained on for the same steps: what does a method lose? On images all
              have the attention MACs that Sparsifiner takes with its predictor, token pruning the
              same MACs of the whole model. On match_to_sample's 18 tokens, where a predictor takes
              more than it can save, the same budget of keys

Every arm is an ordinary run: started again, the script skips what is done and resumes what was cut.
Writes benchmarks/results/sparsifiner-PRESET.json and the tables of docs/methods/sparsifiner.md.
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from running import RESULTS, ROOT, between, origin, record_of
from sparsifiner_arms import KEEPS, PRESETS, SETS, Arm, Preset, arms
from sparsifiner_tables import page, summarise

from gossamer.records import record as records

PAGE = ROOT / "docs" / "methods" / "sparsifiner.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def run(preset: Preset, data: Path, arm: Arm, seed: int, outputs: Path) -> Path:
    one = preset.sets[arm.dataset]
    words = [
        *one.words,
        *([] if arm.dataset == "match_to_sample" else [f"dataset.path={data / arm.dataset}"]),
        *preset.common,
        f"trainer.base_steps={one.base_steps}",
        f"trainer.steps={arm.steps}",
        f"trainer.lr={one.lr:g}",
        "trainer.schedule=cosine",
        "trainer.warmup=0.05",
        "trainer.checkpoint_every=0",
        "trainer.progress=false",
        f"outputs={outputs}",
        *arm.words,
        f"seed={seed}",
    ]
    began = time.monotonic()
    path = record_of(words, preset.threads)
    spent = time.monotonic() - began
    print(f"{spent:6.0f} s  seed {seed}  {arm.dataset}  {arm.part}  {arm.name}", flush=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' folders")
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--outputs", type=Path, default=ROOT / "outputs" / "benchmarks" / "sparsifiner"
    )
    args = parser.parse_args()
    preset, began = PRESETS[args.preset], time.monotonic()
    data, outputs = args.data.resolve(), (args.outputs / args.preset).resolve()
    todo = [arm for name in SETS for keep in KEEPS for arm in arms(preset, name, keep)]
    with ThreadPoolExecutor(preset.workers) as pool:
        made = {
            (arm, seed): pool.submit(run, preset, data, arm, seed, outputs)
            for seed in args.seeds  # a whole seed first, so that a cut benchmark has one
            for arm in todo
        }
        paths = {key: one.result() for key, one in made.items()}
    told = {
        arm: summarise(arm, [records.read(paths[arm, seed]) for seed in args.seeds]) for arm in todo
    }
    one = records.read(paths[todo[0], args.seeds[0]])
    result = {
        "preset": args.preset,
        "setting": preset.setting(len(args.seeds)),
        **origin(one),
        "seconds": round(time.monotonic() - began),  # of this start, which skips what is done
        "rows": [row for row in told.values()],
    }
    (RESULTS / f"sparsifiner-{args.preset}.json").write_text(json.dumps(result, indent=1) + "\n")
    every = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("sparsifiner-*.json"))]
    between(PAGE, BEGIN, END, [line for each in every for line in page(each)])
    print("\n".join(page(result)))


if __name__ == "__main__":
    main()
