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

_ALL: tuple[Method, ...] = (
    greedy, sample, best_of_n, adaptive, beam_search, stepwise_best_of_n, lookahead, dvts, rebase,
    particle_filter, revise, mcts, rstar, critic_search,
)  # fmt: skip
METHODS = {method.__name__: method for method in _ALL}
