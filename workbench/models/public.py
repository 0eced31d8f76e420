r"""Public process reward models by name, each read as its authors read it, behind `Verifier.score`.

| model | a step's score |
|---|---|
| `peiyi9979/math-shepherd-mistral-7b-prm` | softmax of `+` and `-` at the step tag `ки` |
| `openreasoner/Math-psa`, an adapter | softmax of ` +` and ` -` at a token of five newlines |
| `RLHFlow/Llama3.1-8B-PRM-*-Data` | steps are turns; softmax of `+`, `-` where the answer begins |
| `Skywork/Skywork-o1-Open-PRM-*` | sigmoid of a linear value head at the newline after the step |
| `Qwen/Qwen2.5-Math-PRM-*`, `-7B-PRM800K` | P(class 1) of a two-layer head at `<extra_0>` |

(Math-Shepherd arXiv 2312.08935, OpenR 2410.09671, Qwen 2501.07301.)

Each is a `StepVerifier` over a `Scorer`, a body with a head that gives log-odds where steps end: no
logits of whole vocabularies, no code from the hub. To add one: a layout, and a line in `PUBLIC`.

Deviations: separators are appended as ids and read by position (a step that holds a tag or several
lines is one step); heads are in float32; adapters are not merged. OpenR's training shifts the
labels: Math-psa learnt to judge one token before the separator, but is read at it, as published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_utils import load_state_dict

from workbench.models.checkpoints import check_complete, without_library_notes
from workbench.models.heads import ScalarHead
from workbench.models.memory import check_fits
from workbench.models.quantised import load_model, settled
from workbench.models.reader import Scorer
from workbench.models.templates import in_chat
from workbench.models.templates import plain_ids as _ids
from workbench.models.verifier import StepVerifier
from workbench.types import Problem

# ids before the first step, then of each step; a step is read at the last id of its segment
Segments = list[list[int]]
LINES = " \n\n\n\n\n"
SYSTEM = r"Please reason step by step, and put your final answer within \boxed{}."


# -- layouts: (tokenizer, question, steps) -> segments ---------------------------------------------


def _numbered(steps: Sequence[str]) -> list[str]:
    """`Step 2: ...`, as in the training data, unless a step begins so already."""
    texts = enumerate(map(str.strip, steps), start=1)
    return [text if re.match(r"[Ss]tep \d+:", text) else f"Step {i}: {text}" for i, text in texts]


def _shepherd(tokenizer, question: str, steps: Sequence[str]) -> Segments:
    r"""`question Step 1: ... ки\nStep 2: ... ки`.

    SentencePiece begins each text as if a space stood before it. Before later steps stands a
    newline: they are tokenised behind a tag, which is cut off.
    """
    tag = _ids(tokenizer, "ки")
    if (found := _ids(tokenizer, "ки\n")[: len(tag)]) != tag:
        raise ValueError(f"'ки' before a newline should be ids {tag}, this tokenizer has {found}")
    texts = _numbered(steps)
    rows = [_ids(tokenizer, text) for text in texts[:1]]
    rows += [_ids(tokenizer, f"ки\n{text}")[len(tag) :] for text in texts[1:]]
    return [_ids(tokenizer, "<s>")[-1:] + _ids(tokenizer, question), *(row + tag for row in rows)]


def _separated(tokenizer, start: str, steps: Sequence[str], separator: str) -> Segments:
    rows = [_ids(tokenizer, text) + _ids(tokenizer, separator) for text in steps]
    return [_ids(tokenizer, start), *rows]


def _psa(tokenizer, question: str, steps: Sequence[str]) -> Segments:
    return _separated(tokenizer, question, [f" {text}" for text in _numbered(steps)], LINES)


def _skywork(tokenizer, question: str, steps: Sequence[str]) -> Segments:
    return _separated(tokenizer, f"<|im_start|>{question}\n", steps, "\n")


def _qwen(tokenizer, question: str, steps: Sequence[str]) -> Segments:
    talk = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    start = in_chat(tokenizer, talk, add_generation_prompt=True)
    return _separated(tokenizer, start, steps, "<extra_0>")


def _turns(tokenizer, question: str, steps: Sequence[str]) -> Segments:
    """A talk in which all answers were `+`; a step ends where the next answer would begin."""
    segments, talk, before = [[]], [], ""
    for i, text in enumerate(steps):
        talk.append({"role": "user", "content": text if i else f"{question} {text}"})
        now = in_chat(tokenizer, talk, add_generation_prompt=True)
        if not now.startswith(before):
            raise ValueError(f"the chat template rewrites earlier turns, {before[-40:]!r} is gone")
        segments.append((_ids(tokenizer, "+") if i else []) + _ids(tokenizer, now[len(before) :]))
        talk.append({"role": "assistant", "content": "+"})
        before = f"{now}+"
    return segments


LAYOUTS = {"shepherd": _shepherd, "psa": _psa, "skywork": _skywork, "qwen": _qwen, "turns": _turns}

# -- the table -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublicFormat:
    """How a family of PRMs reads: its layout, the ids it was trained with, and what judges."""

    layout: str  # one of `LAYOUTS`
    marks: Mapping[str, int]  # texts, with the id in which each must end
    labels: tuple[str, ...] = ()  # good and bad, whose next-token logits are read ...
    # ... or else the layers of the head: for log-odds, or for the classes bad and good
    head: tuple[str, ...] = ()
    base: str | None = None  # of an adapter; its own configuration names a path of its authors

    def bound(self, tokenizer) -> PublicFormat:
        """Itself; ValueError if the tokenizer is not that of training, or lays nothing out."""
        for text, wanted in self.marks.items():
            if (found := _ids(tokenizer, text))[-1:] != [wanted]:
                raise ValueError(f"{text!r} should end in id {wanted}, this tokenizer has {found}")
        LAYOUTS[self.layout](tokenizer, "How many?", ["One.", "Two."])
        return self

    def segments(self, tokenizer, problem: Problem, steps: Sequence[str]) -> Segments:
        """Ids before the first step, then of each step, at whose last id it is judged."""
        return LAYOUTS[self.layout](tokenizer, problem.question, steps)


SHEPHERD = PublicFormat("shepherd", {"<s>": 1, "ки": 12902, "+": 648, "-": 387}, ("+", "-"))
PSA = PublicFormat(
    "psa", {LINES: 76325, " +": 488, " -": 481}, (" +", " -"), base="Qwen/Qwen2.5-Math-7B-Instruct"
)
RLHFLOW = PublicFormat("turns", {"+": 10, "-": 12}, labels=("+", "-"))
SKYWORK = PublicFormat("skywork", {"<|im_start|>": 151644, "\n": 198}, head=("v_head.summary",))
QWEN = PublicFormat("qwen", {"<extra_0>": 151651}, head=("score.0", "score.2"))
PUBLIC = {
    "peiyi9979/math-shepherd-mistral-7b-prm": SHEPHERD,
    "openreasoner/Math-psa": PSA,
    **{f"RLHFlow/Llama3.1-8B-PRM-{data}-Data": RLHFLOW for data in ("Deepseek", "Mistral")},
    **{f"Skywork/Skywork-o1-Open-PRM-Qwen-2.5-{size}": SKYWORK for size in ("1.5B", "7B")},
    **{f"Qwen/Qwen2.5-Math-{which}": QWEN for which in ("7B-PRM800K", "PRM-7B", "PRM-72B")},
}


def known_name(name_or_path: str | Path) -> str | None:
    """The name in `PUBLIC` that a name or the path of a folder speaks of."""
    parts = [part.lower() for part in Path(name_or_path).parts]
    ends = ((name, name.split("/")[1].lower()) for name in PUBLIC)
    return next((name for name, end in ends if any(part.endswith(end) for part in parts)), None)


# -- loading ---------------------------------------------------------------------------------------


def load_public(
    name_or_path: str | Path,
    *,
    base: str | Path | None = None,
    dtype: str | torch.dtype = "bfloat16",
    device: str | None = None,
    quantise: bool = False,
    **options,
) -> StepVerifier:
    """A public PRM from the hub by its name in `PUBLIC`, or from a folder named like it.

    `base`: name or folder of what an adapter sits on; `quantise`: weights in 4 bits; `options` go
    to `StepVerifier`. ValueError for a missing base, missing weights, a tokenizer with other ids
    than in training, or where there is no computing in 4 bits.
    """
    known = known_name(name_or_path)
    form = PUBLIC[known]
    if base and not form.base:
        raise ValueError(f"base={str(base)!r} is of no use for {known}, leave it out")
    folder = whole = _fetch(name_or_path)
    if form.base:
        why = f"{known} is an adapter, give the folder of its base as base=...: "
        whole = _fetch(base or form.base, why)
    check_complete(whole)
    tokenizer = AutoTokenizer.from_pretrained(whole, trust_remote_code=False)
    form.bound(tokenizer)  # before gigabytes are read
    kind, place = settled(dtype, device)
    check_fits(whole, dtype=kind, device=place, quantise=quantise)
    model = _load_body(form, whole, folder, dtype=dtype, device=device, quantise=quantise)
    scorer = Scorer(model.get_decoder() if form.labels else model, _head(form, model, whole))
    # a model of billions of weights has key-values to match: a smaller cache than ours
    sizes = {"batch_tokens": 16_384, "cache_tokens": 16_384}
    options = {"name": known.split("/")[1], **sizes, **options}
    return StepVerifier(scorer, tokenizer, form, head=ScalarHead(), **options)


def _fetch(name_or_path: str | Path, why: str = "") -> Path:
    """The folder of a checkpoint: the path itself, or what the hub has under that name."""
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    try:
        return Path(snapshot_download(str(name_or_path)))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{why}cannot get {str(name_or_path)!r}: {reason}") from error


def _load_body(form: PublicFormat, whole: Path, folder: Path, **settings) -> torch.nn.Module:
    """The whole model, with the adapter in or under `folder`, if it is one (OpenR's is under)."""
    found = folder.rglob("adapter_config.json") if form.base else ()
    adapters = [str(file.parent) for file in found]
    if form.base and len(adapters) != 1:
        raise ValueError(f"{folder} holds {len(adapters)} adapter_config.json, need one adapter")
    family = AutoModelForCausalLM if form.labels else AutoModel
    with without_library_notes():
        from peft import PeftModel

        model = load_model(family, whole, trust_remote_code=False, **settings)
        for adapter in adapters:
            model = PeftModel.from_pretrained(model, adapter).get_base_model()
    return model


def _head(form: PublicFormat, model, folder: Path) -> torch.nn.Sequential:
    """What makes log-odds of the states, in float32: of the next-token head, or of its own layers.

    Softmax over two logits is the sigmoid of their difference, and so it is for two classes.
    """
    if form.labels:
        rows = model.get_output_embeddings().weight.detach().float()
        good, bad = (rows[form.marks[label]] for label in form.labels)
        return torch.nn.Sequential(_linear(good[None] - bad[None], None))
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    held = (pair for file in files for pair in load_state_dict(file).items())
    own = (pair for pair in held if pair[0].startswith(form.head))
    weights = {name: weight.float().to(model.device) for name, weight in own}
    names = [f"{layer}.{part}" for layer in form.head for part in ("weight", "bias")]
    if missing := [name for name in names if name not in weights]:
        raise ValueError(f"{folder} is not whole: {', '.join(missing)} missing")
    *inner, (last, bias) = [(weights[w], weights[b]) for w, b in zip(names[::2], names[1::2])]
    if len(last) == 2:
        last, bias = last[1:] - last[:1], bias[1:] - bias[:1]
    hidden = [part for layer in inner for part in (_linear(*layer), torch.nn.ReLU())]
    return torch.nn.Sequential(*hidden, _linear(last, bias))


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.nn.Linear:
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    layer.bias = None if bias is None else torch.nn.Parameter(bias, requires_grad=False)
    return layer
