"""Producers: the code that writes a run, whatever happens to it.

`core` decides, `opening` gets the run, `sync` and `aio` do it; `base` is what those two
have in common, `callers` the threads of `aio`.
"""
