"""The network: its shape, arithmetic, positions, kernels and count of operations."""
