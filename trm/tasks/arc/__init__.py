"""ARC: text, drawing, task and a generator of simple stand-ins."""
