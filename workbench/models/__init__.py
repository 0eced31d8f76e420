"""Models that write and models that judge."""


def load_policy(name_or_path, **options):
    """A policy from a shipped name, a folder or the hub; see `workbench.models.policy.load_policy`."""
    from workbench.models.policy import load_policy

    return load_policy(name_or_path, **options)


def load_verifier(name_or_path, **options):
    """A process reward model: a shipped one, a folder of ours, or a public one by its name on the hub.

    See `workbench.models.verifier.load_verifier` and, for the public ones and how they are read, `models.public`.
    """
    from workbench.models.public import known_name, load_public
    from workbench.models.verifier import load_verifier

    load = load_public if known_name(name_or_path) else load_verifier
    return load(name_or_path, **options)
