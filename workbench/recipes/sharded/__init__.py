"""Scripts for `accelerate launch` that spread one model over several GPUs, and its settings."""
