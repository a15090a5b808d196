"""Causal language models as proposers of grids: `grid` uses them, `tuning` trains them."""
