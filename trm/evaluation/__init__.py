"""Accuracy, records and statistics of networks; benchmarks and comparisons of training runs."""
