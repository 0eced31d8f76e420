"""Search methods, one file each: generator functions for one problem. To add one, write it and name
it in METHODS."""

from workbench.search.beam import beam_search
from workbench.search.best_of_n import best_of_n
from workbench.search.sample import greedy, sample

METHODS = {"greedy": greedy, "sample": sample, "best_of_n": best_of_n, "beam_search": beam_search}
