"""Zero-shot accuracy is that of summed log-likelihoods by hand; the model is left as it was."""

from types import SimpleNamespace

import pytest
import torch

from gossamer.errors import ConfigError, DataError
from gossamer.tasks import zero_shot
from gossamer.tasks.zero_shot import ZeroShot, evaluate
from gossamer.tasks.zero_shot_model import scoring
from tests.tasks.asking import (
    accuracy,
    constant,
    llama,
    questions,
    score,
    state,
    tokenizer,
    write,
)


@pytest.fixture(scope="module")
def model():
    return llama()


def ask(model, folder, *names, **settings):
    return evaluate(model, tokenizer(), names, str(folder), **settings)


@pytest.mark.parametrize(
    ("name", "split", "text"),
    [
        ("hellaswag", "validation", "{}"),
        ("piqa", "validation", "Question: {}\nAnswer:"),
        ("arc_easy", "test", "Question: {}\nAnswer:"),
        ("arc_challenge", "test", "Question: {}\nAnswer:"),
        ("openbookqa", "test", "{}"),
    ],
)
def test_accuracy_is_that_of_the_largest_summed_log_likelihood(model, tmp_path, name, split, text):
    rows = questions(40)
    write(tmp_path, name, split, rows)
    pairs = [[(text.format(r["context"]), " " + c) for c in r["choices"]] for r in rows]
    labels = [row["label"] for row in rows]
    for limit in (None, 7):
        expected = accuracy(model, iter(pairs[:limit]), labels[:limit])
        found = ask(model, tmp_path, name, limit=limit, batch_size=5)
        assert found == {f"zero_shot/{name}": expected, "zero_shot/mean": expected}
    assert 0 < accuracy(model, iter(pairs), labels) < 1


def test_winogrande_scores_the_same_words_after_either_context(model, tmp_path):
    rows = [
        {"context_options": r["choices"], "continuation": r["context"], "label": r["label"]}
        for r in questions(40, choices=2)
    ]
    write(tmp_path, "winogrande", "validation", rows)
    pairs = [[(c, " " + r["continuation"]) for c in r["context_options"]] for r in rows]
    expected = accuracy(model, iter(pairs), [row["label"] for row in rows])
    assert ask(model, tmp_path, "winogrande")["zero_shot/winogrande"] == expected


def test_boolq_compares_no_and_yes(model, tmp_path):
    rows = [
        {"passage": r["context"], "question": f"{r['choices'][0]}?", "label": r["label"]}
        for r in questions(40, choices=2)
    ]
    write(tmp_path, "boolq", "validation", rows)
    texts = [f"{r['passage']}\nQuestion: {r['question']}\nAnswer:" for r in rows]
    pairs = [[(text, " no"), (text, " yes")] for text in texts]
    expected = accuracy(model, iter(pairs), [row["label"] for row in rows])
    assert ask(model, tmp_path, "boolq")["zero_shot/boolq"] == expected


def test_lambada_counts_words_that_greedy_decoding_gives(model, tmp_path):
    texts = [row["context"] for row in questions(30)]
    likely = []
    for text in texts:
        ids = tokenizer()(text, return_tensors="pt").input_ids
        following = tokenizer().decode(model(ids).logits[0, -1].argmax())
        likely.append(following.strip() or "the")
    rows = [{"context": t, "continuation": c} for t, c in zip(texts, likely, strict=True)]
    rows += [{"context": text, "continuation": "window"} for text in texts[:10]]
    expected = sum(score(model, r["context"], " " + r["continuation"])[1] for r in rows) / 40
    write(tmp_path, "lambada_openai", "test", rows)
    assert ask(model, tmp_path, "lambada_openai")["zero_shot/lambada_openai"] == expected
    write(tmp_path, "lambada_openai", "test", [{"context": "a fox", "continuation": "window"}] * 3)
    assert ask(constant("Ġwindow"), tmp_path, "lambada_openai")["zero_shot/mean"] == 1.0
    assert ask(constant("Ġfox"), tmp_path, "lambada_openai")["zero_shot/mean"] == 0.0


def test_a_model_that_likes_one_answer_is_always_right_or_always_wrong(tmp_path):
    row = {"context": "which one", "choices": ["zzz", "qqq"], "label": 0}
    write(tmp_path, "piqa", "validation", [row] * 6)
    assert ask(constant("z"), tmp_path, "piqa")["zero_shot/piqa"] == 1.0
    assert ask(constant("q"), tmp_path, "piqa")["zero_shot/piqa"] == 0.0


def test_of_equal_scores_the_first_choice_is_the_answer(tmp_path):
    rows = [{"context": "which", "choices": ["zz", "qq"], "label": int(i > 3)} for i in range(10)]
    write(tmp_path, "piqa", "validation", rows)
    assert ask(constant(""), tmp_path, "piqa")["zero_shot/piqa"] == 0.4


def test_the_mean_is_over_tasks_not_over_questions(tmp_path):
    row = {"context": "which one", "choices": ["zzz", "qqq"], "label": 0}
    write(tmp_path, "piqa", "validation", [row] * 9)
    write(tmp_path, "copa", "validation", [{**row, "label": 1}])
    found = ask(constant("z"), tmp_path, "piqa", "copa")
    assert found == {"zero_shot/piqa": 1.0, "zero_shot/copa": 0.0, "zero_shot/mean": 0.5}


def test_prompts_that_lose_their_beginning_are_counted(tmp_path):
    write(tmp_path, "hellaswag", "validation", questions(4, words=4) + questions(4, words=90))
    found = ask(llama(positions=64), tmp_path, "hellaswag")
    assert found["zero_shot/cut"] == 0.5
    assert "zero_shot/cut" not in ask(llama(positions=512), tmp_path, "hellaswag")


def test_an_answer_without_room_is_refused_before_training(tmp_path):
    write(tmp_path, "piqa", "validation", [{**questions(1)[0], "choices": ["z", "z" * 99]}] * 2)
    asked = ZeroShot(("piqa",), str(tmp_path))
    with torch.device("meta"):
        empty = llama(positions=64)
    with pytest.raises(DataError, match=r"eval\.zero_shot=piqa: an answer of .* 64 positions"):
        asked.rehearse(empty, tokenizer())
    with torch.device("meta"):
        asked.rehearse(llama(positions=256), tokenizer())


def test_the_model_and_its_tokenizer_are_left_as_they_were(tmp_path):
    write(tmp_path, "copa", "validation", questions(6, choices=2))
    model = llama(tie_word_embeddings=True).to(torch.bfloat16).train()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 2)  # parted since
    model.model.layers[0].eval()
    before, config = state(model), model.config.to_dict()
    modes = [module.training for module in model.modules()]
    ask(model, tmp_path, "copa")
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(after["lm_head.weight"], after["model.embed_tokens.weight"])
    assert [module.training for module in model.modules()] == modes
    assert model.config.to_dict() == config
    assert "tie_weights" not in vars(model) and tokenizer().pad_token is None


def test_bfloat16_scores_are_summed_in_float32():
    model = llama().to(torch.bfloat16)
    pairs = [(row["context"], " " + row["choices"][0]) for row in questions(8)]
    with scoring(model, tokenizer(), 1, None, rehearsal=False) as scorer:
        found = scorer.loglikelihood([SimpleNamespace(args=pair) for pair in pairs])
    expected = [score(model, *pair) for pair in pairs]
    assert [likely for _, likely in found] == [likely for _, likely in expected]
    # summed in bfloat16 they are wrong by up to 0.05
    assert [s for s, _ in found] == pytest.approx([s for s, _ in expected], abs=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda row: {k: v for k, v in row.items() if k != "choices"}, ["'choices'", "piqa"]),
        (lambda row: {**row, "label": -1}, ["row 0", "-1", "2 choices"]),
        (lambda row: {**row, "label": 2}, ["row 0", "label 2"]),
    ],
)
def test_data_that_does_not_fit_is_named(model, tmp_path, change, words):
    write(tmp_path, "piqa", "validation", [change(row) for row in questions(3, choices=2)])
    with pytest.raises(DataError) as told:
        ask(model, tmp_path, "piqa")
    assert [
        word for word in [*words, "piqa/validation.parquet"] if word not in str(told.value)
    ] == []
    (line,) = ZeroShot(("piqa",), str(tmp_path)).problems("language")
    assert line == str(told.value)


def test_a_missing_file_an_unknown_task_and_other_data_are_one_line_each(tmp_path):
    asked = ZeroShot(("piqa", "helaswag"), str(tmp_path))
    missing, unknown = asked.problems("language")
    assert "eval.zero_shot=piqa" in missing and "piqa/validation.parquet is missing" in missing
    assert "eval.zero_shot=helaswag" in unknown and "did you mean hellaswag?" in unknown
    (other,) = asked.problems("text")
    assert other.startswith("eval.zero_shot=[piqa,helaswag]: asks language models")


def test_without_lm_eval_the_line_says_what_to_type(model, tmp_path, monkeypatch):
    monkeypatch.setattr(zero_shot.importlib.util, "find_spec", lambda name: None)
    (line,) = ZeroShot(("piqa",), str(tmp_path)).problems("language")
    assert "pip install 'gossamer[eval]'" in line
    with pytest.raises(ConfigError, match="pip install"):
        ask(model, tmp_path, "piqa")


def test_the_fingerprint_follows_the_files_that_are_asked(tmp_path):
    for name in ("piqa", "copa"):
        write(tmp_path, name, "validation", questions(3, choices=2))
    asked = ZeroShot(("piqa",), str(tmp_path))
    before = asked.fingerprint()
    write(tmp_path, "copa", "validation", questions(4, choices=2))
    assert (
        asked.fingerprint() == before == ZeroShot(("piqa",), str(tmp_path), None, 4).fingerprint()
    )
    assert ZeroShot(("piqa",), str(tmp_path), 2).fingerprint() != before
    write(tmp_path, "piqa", "validation", questions(4, choices=2))
    assert asked.fingerprint() != before
