"""Training of a language model on the grid vocabulary: `python -m hybrid.llm.tuning CONFIG [section.key=value …]`."""
