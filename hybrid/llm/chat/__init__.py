"""Chat models as proposers: prompts, replies held to a form, and grids read out of text."""
