"""PyTorch, imported without the part that takes a third of its import and that no answer of a network needs.

`torch._meta_registrations` says what shapes operations give for tensors without data, of which compilers make use. It
is loaded as soon as something is imported that builds on it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

SHAPES = "torch._meta_registrations"
BUILT_ON_IT = tuple(f"torch.{name}" for name in ("_decomp", "_dynamo", "_inductor", "_prims", "_refs"))


class _Shapes(MetaPathFinder):
    """Loads the part that was left out before what builds on it is imported."""

    def __init__(self) -> None:
        self.stand_in = ModuleType(SHAPES)
        self.stand_in.__getattr__ = self._attribute  # type: ignore[method-assign]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in (SHAPES, *BUILT_ON_IT):
            self.leave()
            if name != SHAPES:
                import_module(SHAPES)
        return None

    def leave(self) -> None:
        """Take the stand-in away, so that the next import is one of the part itself."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self.clear()

    def clear(self) -> None:
        if sys.modules.get(SHAPES) is self.stand_in:
            del sys.modules[SHAPES]
        torch = sys.modules.get("torch")
        if torch is not None and vars(torch).get("_meta_registrations") is self.stand_in:
            del torch._meta_registrations

    def _attribute(self, name: str) -> object:
        """PyTorch needs something of it after all."""
        if name.startswith("__"):
            raise AttributeError(name)
        self.leave()
        return getattr(import_module(SHAPES), name)


def import_torch() -> None:
    """Does nothing where PyTorch is imported already."""
    if "torch" in sys.modules:
        return
    shapes = _Shapes()
    sys.modules[SHAPES] = shapes.stand_in
    sys.meta_path.insert(0, shapes)
    try:
        import_module("torch")
    finally:
        shapes.clear()
