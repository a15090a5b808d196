"""Test-time training on a puzzle's demonstrations, and the calibration of its confidence."""
