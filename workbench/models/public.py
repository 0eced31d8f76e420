r"""Public process reward models by name, each read as its authors read it, behind `Verifier.score`.

| model | a step's score |
|---|---|
| `peiyi9979/math-shepherd-mistral-7b-prm` (arXiv 2312.08935) | softmax of `+` and `-` at the step tag `ки` |
| `openreasoner/Math-psa` (OpenR, 2410.09671), an adapter | softmax of ` +` and ` -` at a token of five newlines |
| `RLHFlow/Llama3.1-8B-PRM-*-Data` | each step a user's turn; softmax of `+` and `-` where the answer begins |
| `Skywork/Skywork-o1-Open-PRM-*` | sigmoid of a linear value head at the newline after the step |
| `Qwen/Qwen2.5-Math-PRM-*`, `-7B-PRM800K` (2501.07301) | P(class 1) of a two-layer head at `<extra_0>` |

All are one thing: a body, the position where a step is read, and a head that gives log-odds there:
no logits of whole vocabularies, no code from the hub. Deviations: separators are appended as ids
and read by position (a step that holds a tag or several lines is one step); heads are in float32;
adapters are not merged; nothing is kept between calls. OpenR's training shifts the labels: Math-psa
learnt to judge one token before the separator, but is read at it, as published.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_utils import load_state_dict

from workbench.models.checkpoints import check_complete, without_library_notes
from workbench.models.quantised import flops_per_token, four_bit, keep_plain_layout
from workbench.types import Meter, Prefix

# ids before the first step, then of each step; a step is read at the last id of its segment
Segments = list[list[int]]
# weights (O, I) and bias (O,) of a head, a ReLU between
Layers = list[tuple[torch.Tensor, torch.Tensor | None]]
LINES = " \n\n\n\n\n"
SYSTEM = r"Please reason step by step, and put your final answer within \boxed{}."


def _ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False).input_ids


def _numbered(steps: Sequence[str]) -> list[str]:
    """`Step 2: ...`, as in the training data, unless a step begins so already."""
    texts = enumerate(map(str.strip, steps), start=1)
    return [text if re.match(r"[Ss]tep \d+:", text) else f"Step {i}: {text}" for i, text in texts]


def _shepherd(tokenizer, question: str, steps: Sequence[str]) -> Segments:
    r"""`question Step 1: ... ки\nStep 2: ... ки`; SentencePiece begins each text as if a space
    stood before it.

    It does before the first step; the later ones follow a newline: they are tokenised behind a tag,
    then cut off."""
    tag = _ids(tokenizer, "ки")
    if (found := _ids(tokenizer, "ки\n")[: len(tag)]) != tag:
        raise ValueError(
            f"the tag 'ки' before a newline should be ids {tag}, this tokenizer has {found}"
        )
    rows = [
        _ids(tokenizer, f"ки\n{t}")[len(tag) :] if i else _ids(tokenizer, t)
        for i, t in enumerate(_numbered(steps))
    ]
    return [_ids(tokenizer, "<s>")[-1:] + _ids(tokenizer, question), *(row + tag for row in rows)]


def _separated(tokenizer, start: str, steps: Sequence[str], separator: str) -> Segments:
    return [
        _ids(tokenizer, start),
        *(_ids(tokenizer, text) + _ids(tokenizer, separator) for text in steps),
    ]


def _psa(tokenizer, question: str, steps: Sequence[str]) -> Segments:
    return _separated(tokenizer, question, [f" {text}" for text in _numbered(steps)], LINES)


def _skywork(tokenizer, question: str, steps: Sequence[str]) -> Segments:
    return _separated(tokenizer, f"<|im_start|>{question}\n", steps, "\n")


def _qwen(tokenizer, question: str, steps: Sequence[str]) -> Segments:
    talk = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    start = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    return _separated(tokenizer, start, steps, "<extra_0>")


def _turns(tokenizer, question: str, steps: Sequence[str]) -> Segments:
    """A talk in which every answer so far was `+`; a step ends where the next answer would begin."""
    segments, talk, before = [[]], [], ""
    for i, text in enumerate(steps):
        talk.append({"role": "user", "content": text if i else f"{question} {text}"})
        now = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        if not now.startswith(before):
            raise ValueError(f"the chat template rewrites earlier turns, {before[-40:]!r} is gone")
        segments.append((_ids(tokenizer, "+") if i else []) + _ids(tokenizer, now[len(before) :]))
        talk.append({"role": "assistant", "content": "+"})
        before = f"{now}+"
    return segments


@dataclass(frozen=True)
class PublicFormat:
    """How a family of PRMs reads: solutions become ids by `layout`; logits or a head judge where
    steps end."""

    layout: Callable[..., Segments]  # (tokenizer, question, steps)
    marks: Mapping[str, int]  # texts, with the id in which each must end
    labels: tuple[str, ...] = ()  # good and bad, whose next-token logits are read ...
    # ... or else the layers of the head: for log-odds, or for the classes bad and good
    head: tuple[str, ...] = ()
    base: str | None = None  # of an adapter; its own configuration names a path of its authors

    def check(self, tokenizer, name: str) -> None:
        """ValueError if the tokenizer is another than in training, or cannot lay out a solution."""
        for text, expected in self.marks.items():
            if (found := _ids(tokenizer, text))[-1:] != [expected]:
                raise ValueError(
                    f"{name}: {text!r} should end in id {expected}, this tokenizer has {found}"
                )
        self.layout(tokenizer, "How many?", ["One.", "Two."])


SHEPHERD = PublicFormat(_shepherd, {"<s>": 1, "ки": 12902, "+": 648, "-": 387}, labels=("+", "-"))
PSA = PublicFormat(
    _psa, {LINES: 76325, " +": 488, " -": 481}, (" +", " -"), base="Qwen/Qwen2.5-Math-7B-Instruct"
)
RLHFLOW = PublicFormat(_turns, {"+": 10, "-": 12}, labels=("+", "-"))
SKYWORK = PublicFormat(_skywork, {"<|im_start|>": 151644, "\n": 198}, head=("v_head.summary",))
QWEN = PublicFormat(_qwen, {"<extra_0>": 151651}, head=("score.0", "score.2"))
PUBLIC = {
    "peiyi9979/math-shepherd-mistral-7b-prm": SHEPHERD,
    "openreasoner/Math-psa": PSA,
    **{f"RLHFlow/Llama3.1-8B-PRM-{data}-Data": RLHFLOW for data in ("Deepseek", "Mistral")},
    **{f"Skywork/Skywork-o1-Open-PRM-Qwen-2.5-{size}": SKYWORK for size in ("1.5B", "7B")},
    **{f"Qwen/Qwen2.5-Math-{which}": QWEN for which in ("7B-PRM800K", "PRM-7B", "PRM-72B")},
}


class PublicVerifier:
    """A public PRM, from `load_public`: `head` makes log-odds of `body(ids)[0]`, (B, T, D); B x T
    <= `batch_tokens`."""

    per = "step"

    def __init__(
        self,
        body,
        head: Layers,
        tokenizer,
        form: PublicFormat,
        *,
        name="prm",
        batch_tokens: int = 16_384,
    ):
        self.body, self.tokenizer, self.form, self.name = body.eval(), tokenizer, form, name
        self.head = [tuple(w if w is None else w.to(body.device) for w in layer) for layer in head]
        self.batch_tokens, self._room = batch_tokens, body.config.max_position_embeddings
        self._flops = flops_per_token(body)

    def score(
        self, prefixes: Sequence[Prefix], *, meters: Sequence[Meter] | None = None
    ) -> list[list[float]]:
        """One score per step; row i pays into `meters[i]`. ValueError on a solution longer than the
        model reads."""
        meters = meters or [Meter() for _ in prefixes]
        rows = [
            self.form.layout(self.tokenizer, p.problem.question, p.texts) if p.steps else []
            for p in prefixes
        ]
        sizes = [sum(map(len, row)) for row in rows]
        for prefix, size in zip(prefixes, sizes):
            if size > self._room:
                raise ValueError(
                    f"{prefix.problem.id}: {size} tokens to judge, {self.name} reads {self._room}"
                )
        scores = [[] for _ in rows]
        order = sorted((i for i, row in enumerate(rows) if row), key=lambda i: -sizes[i])
        while order:  # rows of similar length together; one that is larger than a batch goes alone
            n = max(1, self.batch_tokens // sizes[order[0]])
            batch, order = order[:n], order[n:]
            for i, found in zip(batch, self._read([rows[i] for i in batch])):
                scores[i] = found
                meters[i].verifier += sizes[i]
                meters[i].flops += self._flops * sizes[i]
        return scores

    @torch.inference_mode()
    def _read(self, rows: Sequence[Segments]) -> list[list[float]]:
        """Scores of solutions in one forward, padded on the right, where no token can see it."""
        texts = [torch.tensor(list(chain(*row)), device=self.head[0][0].device) for row in rows]
        ids = pad_sequence(texts, batch_first=True)  # (B, T)
        mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)  # (B, T)
        states = self.body(input_ids=ids, attention_mask=mask, use_cache=False)[0]  # (B, T, D)
        # last id of each step
        ends = [[end - 1 for end in accumulate(map(len, row))][1:] for row in rows]
        x = torch.cat([states[b, end] for b, end in enumerate(ends)]).float()  # (N, D)
        for i, (weight, bias) in enumerate(self.head):
            x = torch.nn.functional.linear(x.relu() if i else x, weight, bias)  # (N, 1) at last
        scores = iter(x[:, 0].sigmoid().tolist())
        return [[next(scores) for _ in end] for end in ends]


def known_name(name_or_path: str | Path) -> str | None:
    """The name in `PUBLIC` that a name or the path of a folder speaks of."""
    parts = [part.lower() for part in Path(name_or_path).parts]
    return next(
        (n for n in PUBLIC if any(part.endswith(n.split("/")[1].lower()) for part in parts)), None
    )


def load_public(
    name_or_path,
    *,
    base=None,
    dtype="bfloat16",
    device=None,
    quantise=False,
    trust_remote_code=False,
    **options,
) -> PublicVerifier:
    """A public PRM from the hub by its name in `PUBLIC`, or from a folder whose path says that
    name's second half.

    `base`: name or folder of what an adapter sits on; `quantise`: weights in 4 bits (`quantised`);
    `trust_remote_code`: run Qwen's own modelling code; `options` (name, batch_tokens) go to
    `PublicVerifier`. Raises ValueError in one line for an unknown name, a missing base, missing
    weights, a tokenizer with other ids than in training, or where there is no computing in 4 bits.
    """
    known = known_name(name_or_path)
    if known is None:
        raise ValueError(
            f"{str(name_or_path)!r} is no public PRM that we can read; known are {', '.join(PUBLIC)}"
        )
    form, device = PUBLIC[known], device or ("cuda" if torch.cuda.is_available() else "cpu")
    for option, given, used in (
        ("base", base, form.base),
        ("trust_remote_code", trust_remote_code, form is QWEN),
    ):
        if given and not used:
            raise ValueError(f"{option}={str(given)!r} is of no use for {known}, leave it out")
    folder = whole = _fetch(name_or_path)
    if form.base:
        whole = _fetch(
            base or form.base, f"{known} is an adapter, give the folder of its base as base=...: "
        )
    check_complete(whole)
    tokenizer = AutoTokenizer.from_pretrained(whole, trust_remote_code=False)
    form.check(tokenizer, known)
    model = _model(form, whole, folder, dtype, device, quantise, trust_remote_code)
    # Qwen's code applies the head itself: body(ids)[0] is (B, T, 2)
    classes = [(torch.tensor([[-1.0, 1.0]]), None)]
    head = classes if trust_remote_code else _head(form, model, whole)
    body = model.get_decoder() if form.labels else model
    return PublicVerifier(body, head, tokenizer, form, **{"name": known.split("/")[1], **options})


def _fetch(name_or_path: str | Path, why: str = "") -> Path:
    """The folder of a checkpoint: the path itself, or what the hub has under that name."""
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    try:
        return Path(snapshot_download(str(name_or_path)))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{why}cannot get {str(name_or_path)!r}: {str(error).strip().splitlines()[0]}"
        ) from error


def _model(
    form: PublicFormat, whole: Path, folder: Path, dtype, device: str, quantise: bool, remote: bool
):
    """The whole model, with the adapter that lies in or under `folder` (OpenR's is in
    `checkpoint-2127`), if any."""
    adapters = (
        [str(file.parent) for file in folder.rglob("adapter_config.json")] if form.base else []
    )
    if form.base and len(adapters) != 1:
        raise ValueError(f"{folder} holds {len(adapters)} adapter_config.json, need one adapter")
    # it reports the weights of the head as unexpected
    notes = logging.getLogger("transformers.modeling_utils")
    with without_library_notes(), ExitStack() as after:
        from peft import PeftModel

        after.callback(setattr, notes, "disabled", notes.disabled)
        notes.disabled = True
        settings = {"dtype": dtype, "trust_remote_code": remote, "output_loading_info": True}
        settings |= four_bit(dtype, device) if quantise else {}
        model, loaded = (AutoModelForCausalLM if form.labels else AutoModel).from_pretrained(
            whole, **settings
        )
        for adapter in adapters:
            model = PeftModel.from_pretrained(model, adapter).get_base_model()
    if missing := sorted(loaded["missing_keys"]):
        raise ValueError(
            f"{whole} is not whole: {missing[0]} and {len(missing) - 1} more weights missing"
        )
    return keep_plain_layout(model.to(device))


def _head(form: PublicFormat, model, folder: Path) -> Layers:
    """What makes log-odds of the states, in float32: two rows of the next-token head, or layers of
    the checkpoint."""
    # softmax over two logits is the sigmoid of their difference, and so it is for two classes
    if form.labels:
        good, bad = (
            model.get_output_embeddings()
            .weight[[form.marks[label] for label in form.labels]]
            .detach()
            .float()
        )
        return [(good[None] - bad[None], None)]
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    found = {
        key: w
        for file in files
        for key, w in load_state_dict(file).items()
        if key.startswith(form.head)
    }
    names = [(f"{layer}.weight", f"{layer}.bias") for layer in form.head]
    if missing := [name for pair in names for name in pair if name not in found]:
        raise ValueError(f"{folder} is not whole: {', '.join(missing)} missing")
    *inner, (weight, bias) = [
        (found[weight].float(), found[bias].float()) for weight, bias in names
    ]
    return [
        *inner,
        (weight, bias) if len(weight) == 1 else (weight[1:] - weight[:1], bias[1:] - bias[:1]),
    ]
