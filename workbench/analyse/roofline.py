r"""How fast a GPU writes, reads and learns: what memory and arithmetic allow, and what is reached.

The roofline (Williams et al. 2009, doi 10.1145/1498765.1498785): a step that moves bytes and does
operations takes the longer of both times. To decode one token for each of b rows, with T tokens
before each, the weights W are moved once, key-values of k bytes a token for every row, and each of
N weights takes two operations a row (Kaplan et al. 2020, arXiv 2001.08361, table 1):

$$t(b) = \max\left(\frac{W + b k T}{\text{bandwidth}}, \frac{2 N b}{\text{peak}}\right).$$

Reading a text takes 2N operations a token, learning from it 6N (forward, and twice that backward).
Software reaches a share of this (`Shares`), for which measurements are cited (`SHARE_SOURCES`).
Deviations: the operations of attention are left out (3 % of a 7B's at 1,000 tokens), and reading
and learning are never short of memory. Used by `costs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf


@dataclass(frozen=True)
class GPU:
    """A device: dollars an hour, operations a second (16 bits, dense), bytes a second, bytes."""

    dollars: float
    peak: float
    bandwidth: float
    memory: float
    source: str = "yours"


@dataclass(frozen=True)
class Size:
    """A language model in numbers; `number_bytes` are those of a weight or a key-value.

    >>> MODEL_SIZES["7b"].weights, MODEL_SIZES["7b"].key_values  # bytes in all, bytes a token
    (15240000000.0, 57344)
    """

    parameters: float
    layers: int
    kv_heads: int
    head_size: int
    number_bytes: int = 2
    source: str = "yours"

    @property
    def weights(self) -> float:
        return self.parameters * self.number_bytes

    @property
    def key_values(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_size * self.number_bytes


@dataclass(frozen=True)
class Shares:
    """What software reaches of the roofline, writing `batch` rows at once, reading and learning."""

    write_share: float = 0.3
    read_share: float = 0.45
    train_share: float = 0.35
    batch: int = 256


@dataclass(frozen=True)
class Rates:
    """Tokens a second of one GPU: written, read, and trained on (forward and backward).

    `models.speed.measure` measures the same three of a model on your machine.
    """

    written: float
    read: float
    trained: float


_SPECS = "https://www.mercatus-ai.com/blog/a100-vs-h100-vs-h200"
_HOPPER = "https://glennklockwood.com/garden/processors/h100"
_LAMBDA = "https://lambda.ai/instances (8 GPUs, September 2026)"
_RUNPOD = "https://www.runpod.io/pricing (October 2026)"
GPUS = {
    "a100": GPU(2.79, 312e12, 2.0e12, 80e9, f"{_SPECS}, price {_LAMBDA}"),
    "h100": GPU(3.99, 989.4e12, 3.35e12, 80e9, f"{_HOPPER}, price {_LAMBDA}"),
    "h200": GPU(4.59, 989.4e12, 4.8e12, 141e9, f"{_HOPPER}, {_SPECS}, price {_RUNPOD}"),
}
_QWEN = "https://huggingface.co/Qwen/Qwen2.5-{}-Instruct"
_LLAMA = "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct"
MODEL_SIZES = {
    "0.5b": Size(0.49e9, 24, 2, 64, source=_QWEN.format("0.5B")),
    "1.5b": Size(1.54e9, 28, 2, 128, source=_QWEN.format("1.5B")),
    "7b": Size(7.62e9, 28, 4, 128, source=_QWEN.format("7B")),
    "llama-8b": Size(8.03e9, 32, 8, 128, source=_LLAMA),
}
SHARE_SOURCES = {
    "write_share": "vLLM 0.6.0 writes 8,088 tokens/s with 256 rows of Llama 3.1 8B (an article on "
    "A100 and H100; the table does not say which); the roofline of an H100 allows 29,000 at 400 "
    "tokens: https://github.com/LambdaLabsML/vllm-benchmark/blob/main/benchmark_v0.md",
    "read_share": "TensorRT-LLM reads and writes 58,650 tokens/s of Llama 3.1 8B on an H100, "
    "prompts of 2,048 and answers of 128, 0.48 of the peak of its 8 bits: "
    "https://github.com/NVIDIA/TensorRT-LLM/blob/main/docs/source/performance/perf-overview.md",
    "train_share": "33 to 39 % of the peak for Llama 3.1 8B under FSDP on 8 H100: "
    "https://github.com/pytorch/torchtitan/blob/main/benchmarks/llama3_h100_202412_torchtitan.md",
}


def decode_rate(gpu: GPU, size: Size, batch: int, context: float) -> float:
    """Tokens a second that the roofline allows `batch` rows with `context` tokens before each.

    >>> round(decode_rate(GPUS["h100"], MODEL_SIZES["7b"], batch=1, context=0))
    220
    >>> round(decode_rate(GPUS["h100"], MODEL_SIZES["7b"], batch=256, context=500))
    37980
    """
    moved = size.weights + batch * size.key_values * context
    return batch / max(moved / gpu.bandwidth, 2 * size.parameters * batch / gpu.peak)


def turning_batch(gpu: GPU, size: Size, context: float) -> float:
    r"""Rows from which decoding waits for arithmetic and not for memory: the corner of t(b).

    $b^* = W / (2N \cdot \text{bandwidth} / \text{peak} - kT)$. Infinite where a row's key-values
    take longer to move than its operations: more rows just bring ever less (`enough_rows`).

    >>> round(turning_batch(GPUS["h100"], MODEL_SIZES["7b"], 0))  # operations a byte: 989.4 / 3.35
    295
    >>> turning_batch(GPUS["h100"], MODEL_SIZES["7b"], 1000)
    inf
    """
    spare = 2 * size.parameters * gpu.bandwidth / gpu.peak - size.key_values * context
    return size.weights / spare if spare > 0 else inf


def enough_rows(gpu: GPU, size: Size, context: float, share: float = 0.9) -> int:
    """Rows that reach this share of the speed that any number of rows can reach.

    >>> enough_rows(GPUS["h100"], MODEL_SIZES["7b"], 1000)
    2392
    """
    moved = size.key_values * context / gpu.bandwidth  # seconds of a row, beside the weights
    limit = max(moved, 2 * size.parameters / gpu.peak)
    return ceil(size.weights / gpu.bandwidth / (limit / share - moved))


def rows_that_fit(gpu: GPU, size: Size, length: float, free: float = 0.9) -> int:
    """Rows of so many tokens whose key-values fit beside the weights, in `free` of the memory.

    >>> rows_that_fit(GPUS["h100"], MODEL_SIZES["7b"], 1000)
    989
    """
    return max(0, int((free * gpu.memory - size.weights) / (size.key_values * length)))


def expected_rates(gpu: GPU, size: Size, shares: Shares, context: float) -> Rates:
    """Tokens a second as software reaches them; rows have `context` tokens on average.

    >>> expected_rates(GPUS["h100"], MODEL_SIZES["7b"], Shares(1, 1, 1, batch=1), 0).trained // 1
    21640.0
    """
    operations = gpu.peak / (2 * size.parameters)  # tokens a second of a forward pass
    written = decode_rate(gpu, size, shares.batch, context) * shares.write_share
    return Rates(written, operations * shares.read_share, operations / 3 * shares.train_share)
