"""Checkpoints: files, folders, the hub, and weights of the reference implementation."""
