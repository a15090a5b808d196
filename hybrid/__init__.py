"""A language model proposes, the network refines, rules verify: the `hybrid` command and its pipeline."""

import trm as trm  # before NumPy is loaded: it says how many threads that has
