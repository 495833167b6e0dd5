"""The first pass says each problem in one line: key, value, what is accepted, what is near."""

import os

import pytest


def test_a_correct_command_has_no_problem(check):
    assert check() == []
    assert check("model=tiny", "trainer.lr=1e-3", "compression=[adapt,prune]", "seed=7") == []
    assert check("experiment=table1", "compression.adapt.rank=2", "trainer.clip=null") == []
    assert check("-m", "compression=none,prune,[adapt,prune]", "seed=range(1,4)") == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trainer.stepz=3", ["trainer.stepz=3", "did you mean trainer.steps?", "schedule"]),
        ("lr=3", ["lr=3", "did you mean trainer.lr?"]),
        ("trainr.lr=3", ["trainr.lr=3", "did you mean trainer.lr?"]),
        ("+trainer.foo=3", ["trainer.foo=3", "no such key", "steps, lr"]),
        ("++trainer.foo=3", ["trainer.foo=3", "no such key"]),
        ("~trainer.foo", ["trainer.foo", "no such key"]),
        ("+foo=1", ["foo=1", "no such key"]),
        ("trainer.lr.x=1", ["trainer.lr.x=1", "no such key", "holds one value"]),
        ("trainer={stepz: 3}", ["trainer.stepz=3", "did you mean trainer.steps?"]),
        ("+trainer={a: {b: 1}}", ["trainer.a", "no such key"]),
        ("trainer.steps=abc", ["trainer.steps=abc", "a whole number"]),
        ("++trainer.steps=1.5", ["trainer.steps=1.5", "a whole number"]),
        ("trainer.progress=1", ["trainer.progress=1", "true or false"]),
        ("trainer.lr=nan", ["trainer.lr=nan", "nan is not"]),
        ("trainer.schedule=cosin", ["trainer.schedule=cosin", "linear", "did you mean cosine?"]),
        ("model.weights=null", ["model.weights=null", "init or pretrained"]),
        ("model.sizes=[1,a]", ["model.sizes=[1,a]", "a list [a whole number, …]"]),
        ("model.name=5", ["model.name=5", "text", "quote it twice", "'\"5\"'"]),
        ("model.config={a: b}", ["model.config={a:b}", "a mapping"]),
        ("model=minilmm", ["model=minilmm", "did you mean minilm?", "tiny"]),
        ("model=5", ["model=5", "accepted: minilm, tiny"]),
        ("model=null", ["model=null", "minilm, tiny"]),
        ("model=../trainer/default", ["model=../trainer/default", "no such model"]),
        ("model=[minilm,tiny]", ["model", "only compression takes a list"]),
        ("compression=[adapt,adapt]", ["compression=[adapt,adapt]", "named twice"]),
        ("compression=[none,prune]", ["compression=[none,prune]", "none stands alone"]),
        ("compression=[]", ["compression=[]", "compression=none"]),
        ("compression=[prun]", ["compression=[prun]", "did you mean prune?"]),
        ("compression.prune.density=1", ["compression.prune.density=1", "add compression=prune"]),
        ("dataset.task_name=a", ["dataset.task_name=a", "dataset=glue/mrpc has it"]),
        ("modle=minilm", ["modle=minilm", "did you mean model?"]),
        ("dataset/glue=mrpc", ["dataset/glue=mrpc", "dataset=glue/mrpc"]),
        ("model@foo=tiny", ["model@foo=tiny", "model=tiny"]),
        ("+model=tiny", ["model=tiny", "a choice already", "write model=tiny"[6:]]),
        ("++model=tiny", ["model=tiny", "model=tiny"]),
        ("~model", ["model", "a run needs one"]),
        ("~seed", ["seed", "every run has this key"]),
        ("+seed=3", ["seed=3", "write seed=3"]),
        ("seed=-1", ["seed=-1", "between 0"]),
        ("seed=1.5", ["seed=1.5", "a whole number"]),
        ("eval.zero_shto=[piqa]", ["eval.zero_shto=[piqa]", "did you mean eval.zero_shot?"]),
        ("eval.zero_shot=piqa", ["eval.zero_shot=piqa", "a list"]),
        ("eval.zero_shot=[piqa,copa,piqa]", ["eval.zero_shot=", "piqa is named twice"]),
        ("eval.folder=/nope", ["eval.folder=/nope", "no such file or folder"]),
        ("eval.limit=0", ["eval.limit=0", "at least 1"]),
        ("eval.limit=x", ["eval.limit=x", "a whole number or null"]),
        ("eval.batch_size=0", ["eval.batch_size=0", "at least 1"]),
        ("twin=contnued", ["twin=contnued", "did you mean continued?"]),
        ("name=a/b", ["name=a/b", "folder"]),
        ("outputs=", ["outputs=", "must name a folder"]),
        ("outputs=/etc/passwd/x", ["outputs=/etc/passwd/x", "/etc/passwd is not a folder"]),
        ("seed=1,2", ["seed=1,2", "add -m"]),
        ("compression=adapt,prune", ["compression=adapt,prune", "'compression=[adapt,prune]'"]),
        ("model.name=a=b", ["model.name=a=b", "must be quoted", "'model.name=\"a=b\"'"]),
        ("model.name=[a", ["model.name=[a", "must be quoted"]),
        ("=5", ["=5", "key before '='"]),
        ("", ["''", "neither a command nor key=value"]),
        ("compere", ["compere", "did you mean compare?"]),
        ("list", ["list", "gossamer list"]),
        ("seed=${seed}", ["seed=${seed}", "cannot be resolved"]),
        ("name=${nope}", ["name=${nope}", "cannot be resolved", "'nope' not found"]),
        ("model._target_=os.system", ["model._target_=os.system", "allow-list", "gossamer"]),
        ("model._target_=fakes.Nope", ["model._target_=fakes.Nope", "no such class"]),
        ("model._target_=fakes.Tiny", ["model.name", "no such key", "layers, width"]),
        ("model._target_=5", ["model._target_=5", "dotted path"]),
        ("+model._partial_=3", ["model._partial_=3", "true or false"]),
        ("~trainer._target_", ["trainer", "_target_"]),
        ("hydra.jb.x=1", ["hydra.jb.x=1", "did you mean hydra.job?"]),
        ("+hydra.foo=1", ["hydra.foo=1", "no such key"]),
        ("hydra.job.num=abc", ["hydra.job.num=abc", "Integer"]),
        ("hydra.mode=FOO", ["hydra.mode=FOO", "MULTIRUN"]),
        ("hydra/launcher=slurm", ["hydra/launcher=slurm", "basic"]),
        ("hydra.run.dir=${nope}", ["hydra.run.dir=${nope}", "cannot be resolved"]),
        ("+hydra.callbacks.x._target_=os.system", ["hydra.callbacks.x._target_", "allow-list"]),
        ("hydra.searchpath=[/nope]", ["hydra.searchpath=/nope", "no such folder"]),
        ("hydra.searchpath=nope", ["hydra.searchpath=nope", "list of strings"]),
    ],
)
def test_a_mistake_is_one_line_that_names_key_value_and_remedy(check, override, words):
    line, *others = check(override)
    assert not others or override == "model._target_=fakes.Tiny"  # each argument it does not take
    assert "\n" not in line
    assert [word for word in words if word not in line] == []
    assert line.startswith(words[0])


@pytest.mark.parametrize("override", ["trainer.stepz=3", "trainr.lr=1", "hydra.ouput_subdir=x"])
def test_a_typo_is_never_answered_with_a_plus(check, override):
    (line,) = check(override)
    assert "+" not in line


def test_zero_shot_tasks_of_a_folder_are_known_by_name(check, tmp_path):
    local = f"eval.folder={tmp_path}"
    assert check("eval.zero_shot=[hellaswag,piqa,mmlu]", local, "eval.limit=40") == []
    (line,) = check("eval.zero_shot=[piqa,helaswag]", local)
    assert line.startswith("eval.zero_shot=[piqa,helaswag]") and "did you mean hellaswag?" in line
    assert check("eval.zero_shot=[race]") == []  # of the hub: lm-eval's index is read by `plan`
    (line,) = check("eval.zero_shot=[race]", local)
    assert "a folder has no task race" in line


def test_zero_shot_without_lm_eval_says_what_to_type(check, monkeypatch):
    from gossamer.tasks import zero_shot

    monkeypatch.setattr(zero_shot, "installed", lambda: False)
    assert check() == []
    (line,) = check("eval.zero_shot=[piqa]")
    assert line.startswith("eval.zero_shot=[piqa]: ") and "pip install 'gossamer[eval]'" in line


def test_all_problems_are_told_at_once(check):
    lines = check("a=b=c", "modle=x", "trainer.stepz=1", "trainer.steps=x", "seed=1,2", "model=no")
    for key in ("a=b=c", "modle", "trainer.stepz", "trainer.steps", "seed", "model=no"):
        assert sum(line.startswith(key) for line in lines) == 1, key
    assert len(lines) == 6


def test_a_missing_file_names_its_neighbour(check, tmp_path):
    (tmp_path / "rows.parquet").touch()
    assert check(f"dataset.path={tmp_path}/rows.parquet") == []
    (line,) = check(f"dataset.path={tmp_path}/row.parquet")
    assert line.startswith("dataset.path=") and "rows.parquet" in line


def test_a_free_mapping_takes_new_entries_with_a_plus_and_checks_their_type(check):
    assert check("+model.config={depth: 3}") == []
    assert check("+model.config.depth=3") == []
    (line,) = check("+model.config.depth=x")
    assert line.startswith("model.config=")
    assert check("+hydra.job.env_set.A=1") == []
    (line,) = check("hydra.job.env_set.A=1")
    assert "+hydra.job.env_set.A=1" in line


def test_an_experiment_file_with_an_unknown_key_or_a_wrong_value_is_found(check, tmp_path):
    folder = tmp_path / "more" / "experiment"
    folder.mkdir(parents=True)
    (folder / "odd.yaml").write_text(
        "# @package _global_\ntrainer:\n  stepz: 3\n  steps: many\nsede: 1\n"
    )
    lines = check("experiment=odd", "--config-dir", str(tmp_path / "more"))
    assert sorted(line.split("=")[0] for line in lines) == [
        "sede",
        "trainer.steps",
        "trainer.stepz",
    ]


def test_a_broken_yaml_file_is_one_line_that_names_the_choice(check, tmp_path):
    folder = tmp_path / "more" / "model"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("a: [1\nb: }\n")
    (line,) = check("model=broken", "--config-dir", str(tmp_path / "more"))
    assert line.startswith("model=broken: ") and "\n" not in line


def test_a_required_argument_that_is_missing_is_named(check, tmp_path):
    folder = tmp_path / "more" / "model"
    folder.mkdir(parents=True)
    (folder / "stage.yaml").write_text("_target_: gossamer.contract.Stage\n")
    (line,) = check("model=stage", "--config-dir", str(tmp_path / "more"))
    assert line == "model.name: must be given: text"
    (folder / "open.yaml").write_text("_target_: fakes.Tiny\nlayers: ???\nwidth: 3\n")
    (line,) = check("model=open", "--config-dir", str(tmp_path / "more"))
    assert line == "model.layers: must be given"
    assert check("model=open", "model.layers=2", "--config-dir", str(tmp_path / "more")) == []


def test_an_experiment_runs_without_the_methods_whose_keys_it_sets(check, tmp_path):
    folder = tmp_path / "more" / "experiment"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /compression: adapt\n"
        "compression:\n  adapt:\n    rank: 2\n"
    )
    extra = ("--config-dir", str(tmp_path / "more"), "experiment=own")
    assert check(*extra) == []
    assert check(*extra, "compression=none") == []
    (line,) = check(*extra, "compression=none", "compression.adapt.rank=3")
    assert "add compression=adapt" in line
    (folder / "typo.yaml").write_text("# @package _global_\ncompression:\n  adpt:\n    rank: 2\n")
    (line,) = check("--config-dir", str(tmp_path / "more"), "experiment=typo")
    assert line.startswith("compression.adpt=")


def test_a_twin_of_overrides_is_checked_like_a_run(check):
    assert check("twin=[model=tiny]", "compression=prune") == []
    assert check("experiment=table1", "twin=[model=tiny,trainer.steps=3]") == []
    (line,) = check("twin=[model=tinny]")
    assert line.startswith("twin: model=tinny") and "did you mean tiny?" in line
    (line,) = check("twin=[compression=prune]")
    assert line.startswith("twin: compression=prune") and "cannot change compression" in line


def test_every_job_of_a_sweep_is_checked_and_the_job_is_named(check):
    (line,) = check("-m", "compression=prune,adapt", "compression.adapt.rank=3", "seed=1,2")
    assert line.startswith("compression.adapt.rank=3") and "[in the job compression=prune" in line
    (line,) = check("-m", "model=tiny,tinny,minilm")
    assert line.startswith("model=tinny")
    (line,) = check("-m", "trainer.steps=1,2,x")
    assert line.startswith("trainer.steps=x")
    lines = check("-m", "trainer.stepz=1,2")
    assert [line.partition(":")[0] for line in lines] == ["trainer.stepz=1", "trainer.stepz=2"]


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("seed=range(1,1000000000)", "more than 10000 jobs"),
        ("trainer.lr=interval(1e-5,1e-3)", "cannot be enumerated"),
        ("experiment=glob(zzz*)", "matches nothing"),
        ("hydra.verbose=true,false", "cannot be swept"),
        ("seed=range(1,5,0)", "cannot be enumerated"),
    ],
)
def test_a_sweep_that_has_no_jobs_or_too_many_is_refused(check, override, word):
    (line,) = check("-m", override, "rerun=true,false")
    assert line.startswith(override.partition("=")[0]) and word in line


def test_a_path_is_taken_from_where_the_command_is_typed(check, tmp_path):
    (tmp_path / "here").mkdir()
    assert os.getcwd() == str(tmp_path)
    assert check("dataset.path=here") == []
