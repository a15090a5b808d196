"""Training of a language model on the grid vocabulary: `hybrid tune CONFIG [section.key=value …]`."""
