"""The comparison: every arm a (proposer, refiner) pair on the same puzzles. Run `python eval/compare.py`."""
