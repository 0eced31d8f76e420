"""Sampling speed: ours, `generate`, continuous batching, and the linear layers alone (ceiling).

    python benchmarks/sampling.py [--policy base] [--problems 64] [--samples 16]

Same model, prompts, temperature and dtype in one process; every contender samples the same number
of completions to their end. Times on a shared machine are noisy: read the ratios. The ceiling
multiplies random inputs by the model's own linear layers at the batch sizes that our engine really
used, call for call: no attention, no norms, no sampling.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from workbench.models.policy import load_policy
from workbench.problems import quantities
from workbench.task import stream_key
from workbench.types import Meter, Prefix

ROOM = 256


def timed(name: str, run: Callable[[], int], repeats: int) -> tuple[str, float, int]:
    """Name, best wall-clock seconds of a few runs, and the tokens that the run generated."""
    best, tokens = float("inf"), 0
    for _ in range(repeats):
        began = time.perf_counter()
        tokens = run()
        best = min(best, time.perf_counter() - began)
        print(f"{name}: {time.perf_counter() - began:.1f} s", flush=True)
    return name, best, tokens


def ours(policy, problems, n: int) -> Callable[[], int]:
    rows = [Prefix(p.blind()) for p in problems for _ in range(n)]
    keys = [stream_key(0, p.problem.id, 0, 0, i % n) for i, p in enumerate(rows)]

    def run() -> int:
        policy.engine.cache.clear()
        meters = [Meter() for _ in rows]
        policy.sample(rows, keys, meters=meters)
        return sum(m.generated for m in meters)

    return run


def generate(policy, problems, n: int, batch: int) -> Callable[[], int]:
    """transformers' `generate`, `batch` prompts at a time with `n` return sequences each."""
    tokenizer, model = policy.tokenizer, policy.model

    def run() -> int:
        tokens = 0
        for i in range(0, len(problems), batch):
            prompts = [p.question + "\n" for p in problems[i : i + batch]]
            inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(
                model.device
            )
            out = model.generate(
                **inputs, do_sample=True, temperature=1.0, top_k=None, top_p=None,
                num_return_sequences=n, max_new_tokens=ROOM, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
            tokens += int((out[:, inputs.input_ids.shape[1] :] != tokenizer.pad_token_id).sum())
        return tokens

    return run


def continuous(policy, problems, n: int) -> Callable[[], int]:
    """transformers' continuous batching, which wants every completion as a request of its own."""
    from transformers import GenerationConfig

    config = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, max_new_tokens=ROOM,
        eos_token_id=policy.tokenizer.eos_token_id, pad_token_id=policy.tokenizer.pad_token_id,
    )  # fmt: skip
    inputs = [policy.tokenizer(p.question + "\n").input_ids for p in problems for _ in range(n)]

    def run() -> int:
        out = policy.model.generate_batch(
            inputs=inputs, generation_config=config, progress_bar=False
        )
        if len(out) != len(inputs):
            raise RuntimeError(f"{len(out)} of {len(inputs)} requests came back")
        return sum(len(result.generated_tokens) for result in out.values())

    return run


def linear_layers(policy, calls: list[tuple[int, int]]) -> Callable[[], int]:
    """The model's linear layers alone, on as many rows as each of the engine's calls had."""
    layers = [
        m
        for name, m in policy.model.named_modules()
        if isinstance(m, torch.nn.Linear) and name != "lm_head"
    ]
    head = policy.model.get_output_embeddings()
    inputs = {(b, new): _inputs(layers, b * new) for b, new in set(calls)}

    @torch.inference_mode()
    def run() -> int:
        for b, new in calls:
            for layer in layers:
                layer(inputs[b, new][layer.in_features])
            head(inputs[b, new][head.in_features][:b])
        return 0

    return run


def _inputs(layers, rows: int) -> dict[int, torch.Tensor]:
    weight = layers[0].weight
    sizes = {layer.in_features for layer in layers}
    return {
        size: torch.randn(rows, size, dtype=weight.dtype, device=weight.device) for size in sizes
    }


def record_calls(policy, run: Callable[[], int]) -> list[tuple[int, int]]:
    """(rows, new columns) of every model call that `run` makes."""
    calls, forward = [], policy.engine._forward

    def recording(ids, *args):
        calls.append(tuple(ids.shape))
        return forward(ids, *args)

    policy.engine._forward = recording
    run()
    policy.engine._forward = forward
    return calls


def compare(
    policy, problems, n: int, repeats: int, skip_continuous: bool
) -> list[tuple[str, float, int]]:
    """(name, seconds, tokens) of every contender, ours first, each warmed up on a few problems."""
    contenders = {"ours": ours(policy, problems, n)}
    for batch in (8, 32, 64):
        contenders[f"generate, {batch} prompts a batch"] = generate(policy, problems, n, batch)
    ours(policy, problems[:4], n)()
    generate(policy, problems[:4], n, 4)()
    rows = [timed(name, run, repeats) for name, run in contenders.items()]
    if not skip_continuous:
        try:
            rows.append(timed("continuous batching", continuous(policy, problems, n), 1))
        except Exception as error:
            print(f"continuous batching did not run: {type(error).__name__}: {error}")
    calls = record_calls(policy, contenders["ours"])
    rows.append(timed("linear layers alone (ceiling)", linear_layers(policy, calls), repeats))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="base")
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--skip-continuous", action="store_true")
    args = parser.parse_args()
    problems = quantities.generate(args.problems, levels=range(2, 8), seed=0, split="test")
    for dtype in args.dtypes:
        policy = load_policy(args.policy, dtype=dtype, max_tokens=ROOM)
        rows = compare(policy, problems, args.samples, args.repeats, args.skip_continuous)
        best = min(seconds for name, seconds, _ in rows if name.startswith("generate"))
        ceiling = rows[-1][1]
        size = f"{args.problems} problems x {args.samples} samples"
        print(f"\n{args.policy}, {dtype}, {size}, {policy.engine.device}")
        heads = {"seconds": 9, "tokens": 9, "tokens/s": 10, "x generate": 12, "of ceiling": 12}
        print(" " * 34 + "".join(f"{head:>{width}}" for head, width in heads.items()))
        for name, seconds, tokens in rows:
            rate = f"{tokens / seconds:10.0f}" if tokens else " " * 10
            shares = f"{best / seconds:12.2f}{ceiling / seconds:12.0%}"
            print(f"{name:34}{seconds:9.2f}{tokens or '':>9}{rate}{shares}")


if __name__ == "__main__":
    main()
