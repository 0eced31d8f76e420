"""The real pretrained model: found where it is, converted once, as good as transformers say."""

import pytest
import torch

from workbench.drive import solve
from workbench.models import load_policy, smollm2
from workbench.models.checkpoints import locate
from workbench.search import METHODS
from workbench.types import Problem

HERE = smollm2.in_package() or (smollm2.CONVERTED / "config.json").is_file()
QUESTION = "What is the capital of France?"


def test_it_is_taken_from_where_it_is(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(smollm2, "CONVERTED", tmp_path / "smollm2")
    monkeypatch.setattr(smollm2, "convert", lambda file, folder: made.append((file, folder)))
    monkeypatch.setattr(smollm2, "in_package", lambda: None)
    assert smollm2.smollm2() == "HuggingFaceTB/SmolLM2-135M-Instruct" == locate("smollm2")
    monkeypatch.setattr(smollm2, "in_package", lambda: tmp_path / "packed.gguf")
    assert smollm2.smollm2() == str(tmp_path / "smollm2")
    assert made == [(tmp_path / "packed.gguf", tmp_path / "smollm2")]
    (tmp_path / "smollm2").mkdir()
    (tmp_path / "smollm2" / "config.json").write_text("{}")
    assert smollm2.smollm2() == str(tmp_path / "smollm2") and len(made) == 1


def test_without_the_reader_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"packed.gguf is there, .*: pip install gguf"):
        smollm2.convert(tmp_path / "packed.gguf", tmp_path / "smollm2")


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason=f"SmolLM2 is not here: {smollm2.GET_IT}")
def test_it_answers_greedily_as_transformers_does_token_for_token():
    policy = load_policy("smollm2", max_tokens=24)
    text = policy.tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], tokenize=False, add_generation_prompt=True
    )
    policy.templates = {"solve": text.replace(QUESTION, "{question}")}
    (result,) = solve([Problem("p", "math", QUESTION)], METHODS["greedy"], policy=policy)
    (own,) = result.rollouts
    start = torch.tensor([policy.prompt_ids(own.problem)])
    room = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": 2}
    theirs = policy.model.generate(start, attention_mask=torch.ones_like(start), **room)
    assert list(own.ids) == theirs[0, start.shape[1] :].tolist()
    assert "Paris" in own.text
