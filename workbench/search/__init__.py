"""Search methods, one file each: generator functions for one problem. To add one, write it and name it in METHODS."""

from workbench.search.sample import greedy, sample

METHODS = {"greedy": greedy, "sample": sample}
