"""Search methods, one file each: generator functions for one problem. To add one, write it and name
it in METHODS."""

from workbench.search.adaptive import adaptive
from workbench.search.beam import beam_search
from workbench.search.best_of_n import best_of_n
from workbench.search.critic_search import critic_search
from workbench.search.dvts import dvts
from workbench.search.lookahead import lookahead
from workbench.search.mcts import mcts
from workbench.search.particle_filter import particle_filter
from workbench.search.rebase import rebase
from workbench.search.revise import revise
from workbench.search.rstar import rstar
from workbench.search.sample import greedy, sample
from workbench.search.stepwise_best_of_n import stepwise_best_of_n
from workbench.types import Method

METHODS: dict[str, Method] = {
    "greedy": greedy,
    "sample": sample,
    "best_of_n": best_of_n,
    "adaptive": adaptive,
    "beam_search": beam_search,
    "stepwise_best_of_n": stepwise_best_of_n,
    "lookahead": lookahead,
    "dvts": dvts,
    "rebase": rebase,
    "particle_filter": particle_filter,
    "revise": revise,
    "mcts": mcts,
    "rstar": rstar,
    "critic_search": critic_search,
}
