"""Commands over many runs: `sweep` runs a notebook on a grid, `compare` holds two runs together."""
