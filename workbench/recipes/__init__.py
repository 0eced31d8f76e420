"""Long work behind what is shipped, one arm a call: `python -m workbench recipe NAME`.

`verifiers` makes labels, verifiers and pools, `policies` improves policies in every way,
`iteration` does both in turn, `searches` runs every search at several sizes, `smollm2` trains a
real model all the way, with what `lessons` gives it, and `story_samples` is what that brings. Each
recipe can be stopped and called again: it goes on where it stood.
"""

from __future__ import annotations

from workbench.recipes.iteration import ITERATION_RECIPES
from workbench.recipes.policies import POLICY_RECIPES
from workbench.recipes.searches import SEARCH_RECIPES
from workbench.recipes.smollm2 import SMOLLM2_RECIPES
from workbench.recipes.story_samples import STORY_RECIPES
from workbench.recipes.verifiers import LANGUAGE, LAYERS, LOG, PRM, VERIFIER_RECIPES, WITHIN, learnt

RECIPES = VERIFIER_RECIPES | POLICY_RECIPES | ITERATION_RECIPES | SEARCH_RECIPES
RECIPES |= SMOLLM2_RECIPES | STORY_RECIPES

# how a PRM of ours is made, and what is measured of it: notebook 03 takes them from here
__all__ = ["LANGUAGE", "LAYERS", "LOG", "PRM", "RECIPES", "WITHIN", "learnt"]
