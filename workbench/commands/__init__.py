"""Commands: `sweep` runs a notebook on a grid, `compare` holds two runs together, `costs` says what
large ones cost."""
