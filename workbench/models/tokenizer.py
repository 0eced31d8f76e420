"""The tokenizer of the embedded models: `problems.vocabulary` as a Hugging Face tokenizer."""

from __future__ import annotations

from workbench.problems.vocabulary import END, PAD, SPECIALS, STEP, SUBJECTS, UNKNOWN, vocabulary


def build_tokenizer():
    """A `PreTrainedTokenizerFast` over `vocabulary()`; decode brings solutions back exactly."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate(vocabulary())}
    core = Tokenizer(models.WordPiece(vocab, unk_token=UNKNOWN))
    # splits on space and isolates punctuation
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = decoders.WordPiece(prefix="##", cleanup=False)
    lines = decoders.Replace(f" {STEP} ", STEP)
    core.decoder = decoders.Sequence([words, decoders.Fuse(), lines])
    special = [AddedToken(t, special=True, normalized=False) for t in SPECIALS if t != STEP]
    core.add_special_tokens(special)
    core.add_tokens([AddedToken(t, normalized=False) for t in (STEP, *SUBJECTS)])
    known = {"pad_token": PAD, "eos_token": END, "unk_token": UNKNOWN}
    settings = known | {"clean_up_tokenization_spaces": False}
    return PreTrainedTokenizerFast(tokenizer_object=core, **settings)
