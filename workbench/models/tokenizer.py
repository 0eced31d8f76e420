"""The tokenizer of the embedded models: one token a word, one a digit, one for the end of a step.

A number is spelled digit by digit (`13` is `1 ##3`), so arithmetic is learnt on digits; the two
kinds of digit say where a number begins and let `decode` put it together again. A subject with its
verb (`Tess has`) is one token, as byte-pair merges would make it: the fact then follows its owner
directly, which a small model learns to look up ten times sooner than across a `has` that stands
everywhere. Words that later stages need (hints, sub-questions, rephrasings, critiques, verifier
labels) have their ids from the start, and 16 more are spare.
"""

from __future__ import annotations

from workbench.problems.programs import VARIABLES
from workbench.problems.quantities import ITEMS, NAMES

PAD, END, UNKNOWN, STEP, PAUSE = "<pad>", "<end>", "<unk>", "\n", "<pause>"
GOOD, BAD = "<good>", "<bad>"  # verifier labels: no word of any problem
SPECIALS = [PAD, END, UNKNOWN, STEP, PAUSE, GOOD, BAD, *(f"<spare{i}>" for i in range(16))]
_WORDS = (
    "How many does do have has ? . , : ; = + - * more fewer than times as the and together "
    "difference between answer is What "
    "hold after these lines show steps step Hint "  # programs, hints
    # sub-questions
    "First we need to know so now who what In other words that with each of total left asked "
    "Check Yes No right wrong not because but should be says question value The therefore Step "
    "correct it was said"  # critiques
)
# `Tess has 4 more than Max`: unlike Max, Tess is defined here
SUBJECTS = [f"{name} has" for name in NAMES]


def vocabulary() -> list[str]:
    """All tokens in the order of their ids."""
    digits = [str(d) for d in range(10)] + [f"##{d}" for d in range(10)]
    tokens = [*SPECIALS, *digits, *_WORDS.split(), *NAMES, *SUBJECTS, *ITEMS, *VARIABLES]
    if len(set(tokens)) != len(tokens):
        twice = sorted({token for token in tokens if tokens.count(token) > 1})
        raise ValueError(f"tokens listed twice: {twice}")
    return tokens


def build_tokenizer():
    """A `PreTrainedTokenizerFast` over `vocabulary()`; decode brings solutions back exactly."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate(vocabulary())}
    core = Tokenizer(models.WordPiece(vocab, unk_token=UNKNOWN))
    # splits on space and isolates punctuation
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words, lines = (
        decoders.WordPiece(prefix="##", cleanup=False),
        decoders.Replace(f" {STEP} ", STEP),
    )
    core.decoder = decoders.Sequence([words, decoders.Fuse(), lines])
    special = [AddedToken(t, special=True, normalized=False) for t in SPECIALS if t != STEP]
    core.add_special_tokens(special)
    core.add_tokens([AddedToken(t, normalized=False) for t in (STEP, *SUBJECTS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )
