"""A workbench for process supervision, reinforcement learning and test-time search of reasoning
language models."""

__version__ = "0.1.0"
