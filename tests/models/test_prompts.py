"""How models are asked: chat templates, examples, layouts of steps, critics."""

from dataclasses import replace

import pytest
from hosts import host_tokenizer
from tiny import TOKENIZER

from workbench.models.generative import ASKS
from workbench.models.prompts import MESSAGES, critic_format, prompts_for, with_layout
from workbench.models.stops import BLANK_LINE, NUMBERED
from workbench.models.templates import EMBEDDED, render
from workbench.search.rstar import ACTIONS
from workbench.types import Problem

ONE = Problem("one", "math", "How many {}?", "5", "2 + 3 = 5\nThe answer is 5")
OTHER = Problem("other", "math", "And now?", "9")
QWEN, LLAMA, GEMMA = map(host_tokenizer, ("qwen3", "llama", "gemma3_text"))


def chat_of(tokenizer, *messages, **options):
    roles = ("user", "assistant")
    chat = [{"role": roles[i % 2], "content": text} for i, text in enumerate(messages)]
    return tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=True, **options
    )


@pytest.mark.parametrize("tokenizer", [QWEN, LLAMA, GEMMA])
def test_every_prompt_of_the_methods_is_a_message_in_the_models_own_chat(tokenizer):
    templates = prompts_for(tokenizer)["templates"]
    words = {"said": "4", "attempt": "1 + {1}", "critique": "no", "subquestion": "Who?"}
    for name, message in with_layout().items():
        text = render(templates, name, ONE, words)
        content = message.format(question=ONE.question, answer=ONE.answer, **words)
        assert text == chat_of(tokenizer, content)
    asked = {prompt for prompt, _ in ACTIONS.values()}
    assert asked | {"hint", "revise", "critique", "rewrite"} <= templates.keys()


def test_a_system_prompt_and_other_fields_of_the_template_are_passed_on():
    text = prompts_for(QWEN, system="Think {hard}.", enable_thinking=False)["templates"]["solve"]
    told = render({"solve": text}, "solve", OTHER)
    assert "Think {hard}." in told and "helpful" not in told
    assert told.endswith("<think>\n\n</think>\n\n")
    with pytest.raises(ValueError, match=r"refuses system, user: System role not supported$"):
        prompts_for(GEMMA, system="Think.")
    with pytest.raises(ValueError, match="a plain prompt takes no such thing"):
        prompts_for(QWEN, chat=False, system="Think.")


@pytest.mark.parametrize(
    ("separator", "told"),
    [
        ("\n", "2 + 3 = 5\nThe answer is 5"),
        (BLANK_LINE, "2 + 3 = 5\n\nThe answer is 5"),
        (NUMBERED, "Step 1: 2 + 3 = 5\nStep 2: The answer is 5"),
    ],
)
def test_examples_are_earlier_turns_laid_out_as_the_separator_says(separator, told):
    templates = prompts_for(QWEN, separator, shots=[ONE])["templates"]
    asked = with_layout(separator=separator)["solve"]
    turns = [asked.format(question=p.question) for p in (ONE, OTHER)]
    mark = "Step 1:" if separator == NUMBERED else ""
    assert render(templates, "solve", OTHER) == chat_of(QWEN, turns[0], told, turns[1]) + mark
    assert ONE.question not in templates["hint"] and templates["hint"].endswith(mark)
    assert not templates["rephrase"].endswith("Step 1:")


def test_a_plain_prompt_shows_examples_above_and_stops_before_the_next_question():
    plain = prompts_for(QWEN, chat=False, shots=[ONE])
    assert plain["stop"] == ("\nQuestion:",)
    assert render(plain["templates"], "solve", OTHER) == (
        "Question: How many {}?\nSolution:\n2 + 3 = 5\nThe answer is 5\n\n"
        "Question: And now?\nSolution:\n"
    )


def test_boxed_answers_are_asked_for_and_shown():
    text = render(prompts_for(LLAMA, boxed=True, shots=[ONE])["templates"], "solve", OTHER)
    assert text.count(r"inside \boxed{}.") == 2 and r"The answer is \boxed{5}" in text


@pytest.mark.parametrize("boxed", [False, True])
def test_an_example_shows_all_of_its_steps_and_its_answer(boxed):
    said = r"\boxed{{{}}}" if boxed else "{}"
    bare = replace(ONE, solution="2 + 3 = 5\n5 + 4 = 9", answer="9")  # as GSM8K's are
    for shot, last in ((bare, "9"), (ONE, "5")):
        text = prompts_for(LLAMA, boxed=boxed, shots=[shot])["templates"]["solve"]
        steps = [line for line in shot.solution.split("\n") if "answer" not in line]
        assert "\n".join([*steps, f"The answer is {said.format(last)}"]) in render(
            {"solve": text}, "solve", OTHER
        )
    open_one = replace(bare, answer=None)
    inside = replace(bare, solution="So x = \\boxed{9}.\nNothing else is.")
    within = replace(bare, solution="2 + 3 = 5\nAdding 5 + 4 = 9, the answer is 9.")
    assert "5 + 4 = 9" in prompts_for(LLAMA, boxed=boxed, shots=[within])["templates"]["solve"]
    shown = [prompts_for(LLAMA, boxed=boxed, shots=[x])["templates"] for x in (open_one, inside)]
    assert "None" not in shown[0]["solve"] and "Nothing else is." in shown[1]["solve"]


def test_the_embedded_models_are_asked_as_they_were_taught():
    assert prompts_for(TOKENIZER) == {"templates": EMBEDDED}


def test_bad_wishes_are_named():
    with pytest.raises(ValueError, match=r"^sytem: the chat template reads no such name, use sys"):
        prompts_for(QWEN, sytem="Be brief.")
    for asked in ({"system": "Be brief."}, {"boxed": True}, {"shots": [ONE]}):
        with pytest.raises(ValueError, match="knows only the words that it was taught: leave out"):
            prompts_for(TOKENIZER, **asked)
    with pytest.raises(ValueError, match=r"^other has no solution: an example needs one$"):
        prompts_for(QWEN, shots=[OTHER])
    QWEN.chat_template, whole = "{{ messages[0].role }}", QWEN.chat_template
    try:
        with pytest.raises(ValueError, match="leaves out a message, or repeats it: use chat=False"):
            prompts_for(QWEN)
    finally:
        QWEN.chat_template = whole


@pytest.mark.parametrize("writes", [False, True])
def test_a_critic_is_asked_in_the_chat_about_the_last_step(writes):
    form = critic_format(LLAMA, writes=writes).bound(LLAMA)
    assert form.writes == writes and form.ask != ASKS["direct"]
    lines = form.lines.segments(LLAMA, OTHER, ["4 + 5 = 9"])
    before, after = form.around(lines, 1)
    text = LLAMA.decode([i for part in (*before, *after) for i in part])
    question = with_layout()["solve"].format(question=OTHER.question)
    assert text.startswith(chat_of(LLAMA, question) + "4 + 5 = 9\n<|eot|><|start|>user<|end|>")
    assert "Is the last step right?" in text
    assert text.endswith("Right, Yes or No?" if writes else "<|start|>assistant<|end|>\n\n")
    assert set(MESSAGES) >= {"critique", "rewrite"}


def test_a_template_that_tells_the_date_tells_a_fixed_one():
    tokenizer = host_tokenizer("llama")
    tokenizer.chat_template = "\n{{ strftime_now('%Y-%m-%d, %A') }} " + tokenizer.chat_template
    text = prompts_for(tokenizer)["templates"]["solve"]
    assert text.startswith("\n2024-07-26, Friday <|begin|>")
