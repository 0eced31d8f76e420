"""The real pretrained model: found where it is, converted once, as good as transformers say."""

import pytest

from workbench.drive import solve
from workbench.models import load_policy, smollm2
from workbench.models.checkpoints import locate
from workbench.models.generative import GenerativeVerifier
from workbench.models.prompts import critic_format
from workbench.problems import stories
from workbench.problems.story_truth import read_answer
from workbench.search import METHODS
from workbench.search.rstar import ACTIONS
from workbench.types import Prefix, Problem

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


HERE_OR_SKIP = pytest.mark.skipif(not HERE, reason=f"SmolLM2 is not here: {smollm2.GET_IT}")


@pytest.mark.slow
@HERE_OR_SKIP
def test_it_is_asked_by_its_chat_template_and_answers_greedily_as_transformers_does():
    policy = load_policy("smollm2", max_tokens=24, asked={"messages": {"solve": "{question}"}})
    told = [{"role": "user", "content": QUESTION}]
    start = policy.tokenizer.apply_chat_template(
        told, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    (result,) = solve([Problem("p", "math", QUESTION)], METHODS["greedy"], policy=policy)
    (own,) = result.rollouts
    assert policy.prompt_ids(own.problem) == start["input_ids"][0].tolist()
    room = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": 2}
    theirs = policy.model.generate(**start, **room)
    assert list(own.ids) == theirs[0, start["input_ids"].shape[1] :].tolist()
    assert "Paris" in own.text


@pytest.mark.slow
@HERE_OR_SKIP
def test_with_examples_it_writes_stories_in_steps_without_any_training():
    shots = stories.generate(3, levels=[1, 2], seed=5)
    asked = {"shots": shots, "system": "You solve word problems."}
    policy = load_policy("smollm2", dtype="fast", max_tokens=48, asked=asked)
    problems = stories.generate(4, levels=[1], seed=0, split="test")
    results = solve(problems, METHODS["greedy"], policy=policy)
    texts = [result.rollouts[0].texts for result in results]
    assert any("=" in text for rows in texts for text in rows)
    assert sum(read_answer(rows[-1]) is not None for rows in texts) >= 2


@pytest.mark.slow
@HERE_OR_SKIP
def test_rstars_five_actions_and_critics_are_asked_of_it():
    policy = load_policy("smollm2", dtype="fast", max_tokens=24)
    (problem,) = stories.generate(1, levels=[1], seed=0, split="test")
    five = {"actions": tuple(ACTIONS), "simulations": 2, "expand": 1, "by": None}
    (found,) = solve([problem], METHODS["rstar"], policy=policy, **five)
    assert found.error is None and found.rollouts
    critic = GenerativeVerifier(policy.model, policy.tokenizer, critic_format(policy.tokenizer))
    (scores,) = critic.score([Prefix.of(problem, problem.solution.split("\n"))])
    assert len(scores) == 2 and all(0 < score < 1 for score in scores)
    once = {"n": 1, "rounds": 1, "expand": 1, "threshold": 1.0, "critique": True}
    (found,) = solve([problem], METHODS["critic_search"], policy=policy, verifier=critic, **once)
    assert found.error is None and len(found.rollouts) == 2
