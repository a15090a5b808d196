"""Checkpoints: files, folders, the hub, and weights of the reference implementation."""


class CheckpointError(RuntimeError):
    """A checkpoint that is missing or cannot be used. The message is one line for people."""
