"""Mazes: rules, text, drawing, task, generator and solver."""
