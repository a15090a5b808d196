"""A language model proposes, the network refines, rules verify: the `hybrid` command and its pipeline."""
