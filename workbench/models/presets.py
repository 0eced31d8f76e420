"""What fits where: a model and the sizes to run it with, by the machine that one has.

    chosen = preset("t4")
    policy = load_policy(chosen.model, **chosen.loading)
    results = solve(problems, METHODS["best_of_n"], policy=policy, in_flight=chosen.in_flight)
    recipe = Recipe(**chosen.training)

A starting point, not an optimum. A test computes the bytes of each (`memory`): loaded and sampling,
or training with adapters, a preset takes at most nine tenths of its machine. Bigger machines get
bigger models rather than bigger batches. Taught in notebook 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A machine with so many GiB for the model, and what to run on it.

    `rows` of at most `max_tokens` tokens are sampled at once (`batch_tokens` of the engine);
    `micro_tokens` go through a training at once, on adapters of a `rank`. A `server` loads nothing
    here: the model is asked over the OpenAI API, by `in_flight` problems at once.
    """

    machine: str
    gib: float
    model: str
    dtype: str = "bfloat16"
    quantise: bool = False
    max_tokens: int = 512
    rows: int = 32
    cache_tokens: int = 32_768
    in_flight: int = 64
    rank: int = 16
    micro_tokens: int = 2048
    server: str | None = None

    @property
    def batch_tokens(self) -> int:
        """Of the rows that are sampled at once, prompts of up to 256 tokens included."""
        return self.rows * (self.max_tokens + 256)

    @property
    def loading(self) -> dict[str, Any]:
        """Options of `load_policy`."""
        if self.server:
            return {"chat": True, "max_tokens": self.max_tokens, "concurrency": self.in_flight}
        names = ("dtype", "quantise", "max_tokens", "batch_tokens", "cache_tokens")
        return {name: getattr(self, name) for name in names}

    @property
    def training(self) -> dict[str, int]:
        """Fields of `Recipe`."""
        return {"rank": self.rank, "alpha": 2 * self.rank, "micro_tokens": self.micro_tokens}


_QWEN = "Qwen/Qwen2.5-{}-Instruct"
PRESETS = {
    "laptop": Preset(
        "a laptop, 8 GB of memory free, no GPU", 8, "smollm2", dtype="fast",
        max_tokens=256, rows=16, in_flight=16, rank=8, micro_tokens=1024,
    ),
    # a Tesla T4 has no bfloat16
    "t4": Preset(
        "one T4, 16 GB (Colab, Kaggle)", 15, _QWEN.format("1.5B"), dtype="float16", rows=64,
    ),
    "24gb": Preset(
        "one GPU of 24 GB (RTX 3090, 4090, L4, A10)", 23, _QWEN.format("7B"), quantise=True,
        max_tokens=1024, rows=32,
    ),
    "80gb": Preset(
        "one GPU of 80 GB (A100, H100)", 79, _QWEN.format("7B"), max_tokens=2048, rows=128,
        cache_tokens=131_072, in_flight=128, rank=64, micro_tokens=8192,
    ),
    "server": Preset(
        "vLLM or SGLang on this or another machine", 0, _QWEN.format("7B"), max_tokens=2048,
        in_flight=256, server="http://localhost:8000/v1",
    ),
}  # fmt: skip


def preset(name: str) -> Preset:
    """The preset of a machine; ValueError for one that there is not.

    >>> preset("t4").dtype, preset("t4").training["rank"]
    ('float16', 16)
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r}: use one of {', '.join(PRESETS)}")
    return PRESETS[name]


def preset_table() -> str:
    """All presets as a Markdown table, for notebooks and the README."""
    head = "| preset | machine | model | weights | tokens | rows | in flight | LoRA rank |"
    rows = [head, "|---|---|---|---|---|---|---|---|"]
    for name, p in PRESETS.items():
        weights = "there" if p.server else "4 bits" if p.quantise else p.dtype
        here = ("there", "there") if p.server else (p.rows, p.rank)
        cells = (name, p.machine, p.model, weights, p.max_tokens, here[0], p.in_flight, here[1])
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)
