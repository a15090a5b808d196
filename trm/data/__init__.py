"""Puzzles in and out: files, data sets, streams, and their tensors on a device."""
