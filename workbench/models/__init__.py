"""Models that write and models that judge."""


def load_policy(name_or_path, **options):
    """A policy from a shipped name, a folder or the hub; see `workbench.models.policy.load_policy`."""
    from workbench.models.policy import load_policy

    return load_policy(name_or_path, **options)


def load_verifier(name_or_path, **options):
    """A verifier: a shipped one, a folder of ours (of steps, outcomes or critiques), or a public
    one by its hub name.

    See `workbench.models.verifier.load_verifier`, `outcome.load_outcome`,
    `generative.load_generative` and, for the public ones, `public`.
    """
    from pathlib import Path

    from workbench.models import generative, outcome
    from workbench.models.public import known_name, load_public
    from workbench.models.verifier import load_verifier

    if (Path(name_or_path) / outcome.FILE).is_file():
        load = outcome.load_outcome
    elif (Path(name_or_path) / generative.FILE).is_file():
        load = generative.load_generative
    else:
        load = load_public if known_name(name_or_path) else load_verifier
    return load(name_or_path, **options)
