"""Models that write and models that judge."""


def load_policy(name_or_path, **options):
    """A policy from a shipped name, a folder or the hub: see `models.policy.load_policy`.

    A URL, `http://localhost:8000/v1#name-of-the-model`, is a server, and
    `http://a:8000/v1,http://b:8000/v1#name` are two that share the work: see `models.server`. An
    instruct model there needs `chat=True`, or `tokenizer=`, whose chat template then is written
    out; `asked` says more (`models.prompts.asked_of_server`).
    """
    if str(name_or_path).startswith(("http://", "https://")):
        from workbench.models.prompts import asked_of_server
        from workbench.models.server import ServerPolicy

        base_url, _, model = str(name_or_path).partition("#")
        return ServerPolicy(base_url, model or None, **asked_of_server(**options))
    from workbench.models.policy import load_policy

    return load_policy(name_or_path, **options)


def load_verifier(name_or_path, **options):
    """A verifier of any kind, shipped, ours or public: see `models.verifier.load_verifier`."""
    from workbench.models.verifier import load_verifier

    return load_verifier(name_or_path, **options)
