"""Sudoku 9x9: rules, text, drawing, task, generator and solver."""
