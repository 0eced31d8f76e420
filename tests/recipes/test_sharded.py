"""The scripts for many GPUs, on one CPU in small; their settings by accelerate's own reader."""

import re
import shlex
from pathlib import Path

import pytest

from workbench.models import load_policy, load_verifier
from workbench.problems import process_data, quantities
from workbench.types import LabelledSolution, Prefix

ROOT = Path(__file__).parents[2]
SHARDED = ROOT / "workbench/recipes/sharded"
PAGES = [*SHARDED.glob("*.py"), ROOT / "notebooks/scale.md"]
QUIET = "--use_cpu --report_to none --disable_tqdm true --save_strategy no --max_steps 1"


@pytest.mark.parametrize("name", ["fsdp", "deepspeed"])
def test_accelerate_knows_every_setting(name):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    config = load_config_from_file(str(SHARDED / f"{name}.yaml"))  # refuses unknown ones above
    assert config.num_processes == 8 and config.mixed_precision == "bf16"
    assert config.distributed_type.value == name.upper()
    parts = config.fsdp_config if name == "fsdp" else config.deepspeed_config
    known = vars(launch_command_parser().parse_args(["script.py"]))
    assert parts and not parts.keys() - known.keys()


def commands():
    """What `accelerate launch` is told, in scripts and page, one string each."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8").replace("\\\\\n", "\\\n").replace("\\\n", " ")
        yield from re.findall(r"^\s*(accelerate launch .*)$", text, re.M)


def test_every_command_names_files_and_options_that_there_are():
    from accelerate.commands.launch import launch_command_parser
    from transformers import HfArgumentParser, TrainingArguments
    from trl import GRPOConfig

    from workbench.recipes.sharded.train_grpo import GRPOAsked
    from workbench.recipes.sharded.train_prm import PRMAsked

    kinds = {
        "train_prm.py": (PRMAsked, TrainingArguments),
        "train_grpo.py": (GRPOAsked, GRPOConfig),
    }
    found = [shlex.split(line)[2:] for line in commands()]
    assert len(found) >= 4
    for words in found:
        asked = launch_command_parser().parse_args(words)
        script = ROOT / asked.training_script
        if script.name == "train.py":  # one's own
            continue
        assert script.is_file()
        if asked.config_file:
            assert (ROOT / asked.config_file).is_file()
        if script.name in kinds:
            known = {name for kind in kinds[script.name] for name in kind.__dataclass_fields__}
            named = {w[2:] for w in asked.training_script_args if w.startswith("--")}
            assert named <= known, named - known
            HfArgumentParser(kinds[script.name])  # and they can be read


@pytest.mark.slow
def test_a_prm_that_our_loader_reads(tmp_path):
    from workbench.recipes.sharded.train_prm import main

    problems = quantities.generate(4, levels=[2], seed=5, split="train")
    rows = [
        LabelledSolution(p, s := tuple(p.solution.split("\n")), (1,) * len(s)) for p in problems
    ]
    process_data.write(rows, tmp_path / "labels.jsonl", format="stepwise")
    out = tmp_path / "prm"
    main(shlex.split(f"--host weak --labels {tmp_path}/labels.jsonl --output_dir {out} {QUIET}"))
    verifier = load_verifier(out)
    (scores,) = verifier.score([Prefix.of(problems[0], rows[0].steps, ended=True)])
    assert len(scores) == len(rows[0].steps)
    ours, before = verifier.model.state_dict(), load_policy("weak").model.state_dict()
    assert any(not ours[name].equal(before[name]) for name in before)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train_prm", "train_grpo"])
def test_a_training_goes_on_from_the_checkpoint_that_is_named(tmp_path, script):
    from importlib import import_module

    main = import_module(f"workbench.recipes.sharded.{script}").main
    problems = quantities.generate(4, levels=[2], seed=5, split="train")
    rows = [LabelledSolution(p, (p.solution.split("\n")[0],), (1,)) for p in problems]
    process_data.write(rows, tmp_path / "labels.jsonl", format="stepwise")
    data = {
        "train_prm": f"--host weak --labels {tmp_path}/labels.jsonl",
        "train_grpo": f"--policy weak --problems {ROOT}/data/samples/quantities.jsonl --bf16 false",
    }
    where = f"--output_dir {tmp_path}/out --resume_from_checkpoint {tmp_path}/nowhere"
    with pytest.raises(ValueError, match="nowhere"):  # it is looked for, and not passed over
        main(shlex.split(f"{data[script]} {where} {QUIET}"))


@pytest.mark.slow
@pytest.mark.parametrize("verifier", ["", "--verifier prm"])
def test_grpo_that_our_loader_reads(tmp_path, verifier):
    from workbench.recipes.sharded.train_grpo import main

    sizes = "--per_device_train_batch_size 4 --num_generations 4 --max_completion_length 48"
    where = f"--problems {ROOT}/data/samples/quantities.jsonl --output_dir {tmp_path}/out"
    main(shlex.split(f"--policy weak {where} {verifier} {sizes} --bf16 false {QUIET}"))
    assert load_policy(tmp_path / "out").model.config.vocab_size
