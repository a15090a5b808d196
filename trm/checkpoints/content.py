"""Files that torch has written: read as a whole, or first without the numbers of tensors, then those of some."""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import numpy as np
from numpy.typing import NDArray

from trm.checkpoints import CheckpointError
from trm.checkpoints.weights import BFLOAT16
from trm.grid import first_line

if TYPE_CHECKING:
    import torch

_DTYPES = {
    "FloatStorage": np.dtype(np.float32),
    "BFloat16Storage": BFLOAT16,
    "HalfStorage": np.dtype(np.float16),
    "DoubleStorage": np.dtype(np.float64),
}


@contextmanager
def _refusing(path: Path, what: str) -> Iterator[None]:
    """Raises CheckpointError, "not WHAT", for whatever is raised while a file is read."""
    try:
        yield
        return
    except (BadZipFile, NotImplementedError, EOFError) as error:
        reason = f"damaged: {error}"
    except pickle.UnpicklingError:  # whose message advises to let the file run code
        reason = "expected tensors and plain data, nothing else is unpickled"
    except Exception as error:  # torch raises many kinds for a file that is not its own
        reason = first_line(error)
    raise CheckpointError(f"{path}: not {what}: {reason}")


def read_tensors(path: Path, what: str, device: str | torch.device = "cpu") -> Any:
    """The content of a file that torch has written: tensors and plain data. Raises CheckpointError: "not WHAT"."""
    with _refusing(path, what):
        if is_zipfile(path):  # torch does not look at the checksums of its parts
            with ZipFile(path) as file:
                if damaged := file.testzip():
                    raise BadZipFile(f"{damaged} has another checksum")
        import torch  # seconds, which other files do not need

        return torch.load(path, map_location=device, weights_only=True)


def read_outline(path: Path, what: str) -> Any:
    """As `read_tensors`, but each tensor is a `StoredTensor`, whose numbers are not read.

    A file of another form than this project writes is read as a whole.
    """
    with suppress(Exception), ZipFile(path) as file:  # `read_tensors` says what is wrong
        (structure,) = (name for name in file.namelist() if name.endswith("/data.pkl"))
        folder = structure.removesuffix("data.pkl")
        if file.read(f"{folder}byteorder") == sys.byteorder.encode():
            return _Outline(BytesIO(file.read(structure)), f"{folder}data/").load()
    return read_tensors(path, what)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor whose numbers are a part of a file."""

    part: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int  # of its first number among those of the part

    def read(self, file: ZipFile) -> NDArray[Any]:
        """Its numbers. Raises BadZipFile where the part has another checksum, ValueError where it is too short."""
        numbers = np.frombuffer(file.read(self.part), self.dtype)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        if min((self.offset, *self.shape, *self.stride)) < 0 or (
            0 not in self.shape and last >= len(numbers)
        ):
            raise ValueError(f"{self.part} has {len(numbers)} numbers, too few for its shape")
        strides = [step * self.dtype.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides).copy()


def read_stored(path: Path, what: str, values: Mapping[object, object]) -> dict[object, object]:
    """Values of an outline, an array for each `StoredTensor`. Raises CheckpointError: "not WHAT"."""
    stored = {name: value for name, value in values.items() if isinstance(value, StoredTensor)}
    if not stored:
        return dict(values)
    with _refusing(path, what), ZipFile(path) as file:
        return {**values, **{name: tensor.read(file) for name, tensor in stored.items()}}


class _Outline(pickle._Unpickler):
    """Reads the structure of a file: tables, lists, numbers and text. Calls nothing that the file names.

    The pure Python class, as in PyTorch: the memory of the other one grows with a number that the file states.
    """

    def __init__(self, file: BytesIO, folder: str) -> None:
        super().__init__(file)
        self.folder = folder

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._stored
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> tuple[str, np.dtype[Any]]:
        _, dtype, key, _, _ = pid
        return f"{self.folder}{key}", dtype

    @staticmethod
    def _stored(
        storage: tuple[str, np.dtype[Any]],
        offset: int,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        *_: object,
    ) -> StoredTensor:
        return StoredTensor(storage[0], storage[1], shape, stride, offset)
