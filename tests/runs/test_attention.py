"""Whole runs of methods that change which tokens attend to which, on the embedded digits and on
match to sample: stages, ledgers, and what was learned about attention, in the record."""

import pytest
import torch

import gossamer
from gossamer import plan
from gossamer.models.attention import attentions, tokens_of
from gossamer.records import record as records
from gossamer.run import read_config
from gossamer.sparsity.attention_macs import budgeted, dense, low_rank
from tests.runs.commands import TRAINER, record, run_directory
from tests.runs.commands import gossamer as command

SAMPLES = "compression.{}.samples=16"
LEARNED = (SAMPLES.format("sparsifiner"), "compression.sparsifiner.recover=0.5")
RUNS = {
    "linformer": ("compression=linformer",),
    "token_pruning": ("compression=token_pruning", "compression.token_pruning.keep=0.5"),
    "static_attention": ("compression=static_attention", SAMPLES.format("static_attention")),
    "sparsifiner": ("compression=sparsifiner", *LEARNED),
    "both": (
        "compression=[token_pruning,sparsifiner]",
        "compression.token_pruning.keep=0.5",
        *LEARNED,
    ),
}
TAUGHT = {
    "linformer": ["project", "distill"],
    "token_pruning": ["prune_tokens", "distill"],
    "static_attention": ["pattern", "sparsify", "distill", "recall"],
    "sparsifiner": ["draw", "reconstruct", "sparsify", "distill", "recall"],
}
STAGES = {name: [f"{name}.{stage}" for stage in stages] for name, stages in TAUGHT.items()}
STAGES["both"] = STAGES["token_pruning"] + STAGES["sparsifiner"]
every_run = pytest.mark.parametrize("name", RUNS)
WIDTH, N = 32, 17  # 4 x 4 patches and the class token


@pytest.fixture
def run(name, finished_vision):
    return finished_vision(*RUNS[name])


@every_run
def test_a_run_leaves_a_valid_record_of_what_it_did(name, run):
    told = record(run.directory)
    assert records.problems(told) == [] and told["status"] == "done"
    assert [row["name"] for row in told["stages"]] == STAGES[name]
    assert all(check["passed"] for check in told["checks"])
    trained = [row["name"] for row in told["stages"] if row["steps"]]
    assert trained == [one for one in STAGES[name] if one.endswith(("distill", "reconstruct"))]
    assert told["budget"]["unspent"] == 0


@every_run
def test_the_quality_in_the_record_is_that_of_the_exported_model(name, run):
    torch.set_num_threads(1)
    made = plan.checked(read_config(run.directory))
    made.open()
    model = gossamer.load(run.directory / "export")
    assert tokens_of(model) == N
    seen = made.task.evaluate(model, made.data, "test")
    assert seen == pytest.approx(record(run.directory)["quality"]["compressed"], rel=1e-5)


# of both blocks: tokens that reach them, and their products
KEPT = {
    "linformer": ([N, N], lambda n: low_rank(n, WIDTH, 4)),
    "token_pruning": ([N, 9], lambda n: dense(n, WIDTH)),
    "static_attention": ([N, N], lambda n: budgeted(n, WIDTH, 5, 1)),
    "sparsifiner": ([N, N], lambda n: budgeted(n, WIDTH, 5, 1)),
    "both": ([N, 9], lambda n: budgeted(n, WIDTH, 5, 1)),
}


@every_run
def test_the_ledger_has_the_products_of_each_attention_and_their_sum_is_told(name, run):
    told = record(run.directory)
    rows = [row for row in told["layers"] if row["dense_macs"] is not None]
    assert [row["name"] for row in rows] == ["blocks.0.attn", "blocks.1.attn"]
    reach, products = KEPT[name]
    for row, tokens in zip(rows, reach, strict=True):
        assert row["shape"] == [4, tokens, tokens]
        assert row["dense_macs"] == dense(N, WIDTH)
        if name in ("sparsifiner", "both"):  # and what it takes to choose
            assert row["macs"] > products(tokens)
        else:
            assert row["macs"] == products(tokens)
    compute = told["compute"]
    assert compute["attention_macs"] == sum(row["macs"] for row in rows)
    assert compute["attention_macs_dense"] == 2 * dense(N, WIDTH)


@pytest.mark.parametrize("name", ["linformer", "token_pruning"])
def test_what_needs_no_kernel_is_counted_in_the_whole_model(name, run):
    compute = record(run.directory)["compute"]
    saved = compute["macs_dense"] - compute["macs_effective"]
    products = compute["attention_macs_dense"] - compute["attention_macs"]
    if name == "linformer":
        assert saved == products
    else:  # feed-forward layers and projections too
        assert saved > products


@pytest.mark.parametrize("name", ["static_attention", "sparsifiner", "both"])
def test_the_recall_of_every_block_is_in_the_record_before_and_after_the_training(name, run):
    stages = {row["name"].split(".")[1]: row for row in record(run.directory)["stages"]}
    for stage in ("sparsify", "recall"):
        found = stages[stage]["figures"]
        for block in range(2):
            mine, best, chance = (
                found[f"{who}recall {block}"] for who in ("", "oracle ", "random ")
            )
            assert 0 < mine <= best <= 1 and 0 < chance < best
            assert found[f"tokens {block}"] == KEPT[name][0][block]


def test_a_run_on_match_to_sample_keeps_a_quarter_of_its_18_tokens(tmp_path):
    vit = ("model=vit", "model.weights=init", "model.patch=4", "model.width=32", "model.layers=2")
    few = ("dataset.train=64", "dataset.validation=24", "dataset.test=40", "dataset.batch_size=8")
    ended = command(
        *(*vit, "model.heads=2", "model.neurons=64", *TRAINER, "dataset=match_to_sample", *few),
        *RUNS["sparsifiner"],
        cwd=tmp_path,
    )
    assert ended.status == 0, ended.err
    run = run_directory(tmp_path)
    told = record(run)
    assert records.problems(told) == [] and all(check["passed"] for check in told["checks"])
    assert [row["name"] for row in told["stages"]] == STAGES["sparsifiner"]
    model = gossamer.load(run / "export")
    assert tokens_of(model) == 18
    assert [layer.connectivity.budget for layer in attentions(model).values()] == [5, 5]
    assert "5 of 18 keys in 2 blocks" in {check["figure"] for check in told["checks"]}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("compression=[sparsifiner,token_pruning]",),
            "token_pruning would destroy the sparse attention of sparsifiner; "
            "name token_pruning before sparsifiner",
        ),
        (
            ("compression=[token_pruning,linformer]",),
            "linformer would destroy the pruned tokens of token_pruning",
        ),
        (
            ("compression=linformer", "compression.linformer.rank=18"),
            "compression.linformer: rank=18: from 1 to 17",
        ),
        (
            ("compression=token_pruning", "compression.token_pruning.locations=[2]"),
            "compression.token_pruning: locations=[2]: different blocks from 0 to 1, e.g. [1]",
        ),
        (
            ("compression=static_attention", "compression.static_attention.kind=strided"),
            "compression.static_attention.kind=strided: ",
        ),
    ],
)
def test_what_cannot_work_is_one_line_and_status_2(words, line, tmp_path):
    vision = ("model=vit_tiny", "model.layers=2", "dataset=digits")
    ended = command("plan", *vision, *words, cwd=tmp_path)
    assert ended.status == 2 and line in ended.err, ended.err
    assert "Traceback" not in ended.err
