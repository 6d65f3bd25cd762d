"""States of networks in files: each is what was written for this very network, or refused; nothing in it is run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from recot.request.errors import RequestError
from recot.system.files import read_sealed


def refusal(fault: object) -> ValueError:
    """The error for a file that training cannot go on from; ``fault`` names the file."""
    return ValueError(f"{fault}; nothing in it was run. Delete it, and the same command starts this run from the "
                      "beginning.")


def unpickled(stream: BinaryIO) -> Any:
    """The tensors, on the CPU, and plain containers that ``torch.save`` wrote.

    Raises:
        ValueError: they are something else.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is refused in the next line
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file can make anything of the reader, and its advice is to run the file
        raise ValueError(f"cannot be read safely ({type(error).__name__})") from error


def read(file: Path, parts: set[str]) -> dict[str, Any]:
    """What ``files.write_sealed(file, partial(torch.save, ...))`` wrote.

    Raises:
        ValueError: the file is damaged or foreign, or lacks one of its ``parts``.
    """
    try:
        content = read_sealed(file)
    except (ValueError, OSError) as error:
        raise refusal(error) from error
    try:
        state = unpickled(content)
    except ValueError as error:
        raise refusal(f"{file} {error}") from error
    found: dict[str, Any] = state if isinstance(state, dict) else {}
    if missing := sorted(parts - {*found}):
        raise refusal(f"{file} is of something else (no {', '.join(missing)})")
    return found


def check(file: Path, state: Any, wanted: Mapping[str, Any], trained: str = "") -> None:
    """Refuse a file with a ``state`` that is not one of the module whose state is ``wanted``.

    Args:
        trained: how the names of tensors begin that have to be finite.

    Raises:
        ValueError: it is of another module, or a number in it is not finite.
    """
    if reason := misfit(state, wanted, trained):
        raise refusal(f"{file} {reason}")


def weights(file: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The state of the network whose state is ``wanted``, from a file of ``torch.save``.

    Raises:
        ValueError: the file holds something else; nothing in it was run.
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        try:
            state = unpickled(stream)
        except ValueError as error:
            raise ValueError(f"{file} {error}; nothing in it was run") from error
    if reason := misfit(state, wanted):
        raise ValueError(f"{file} {reason}")
    found: dict[str, Any] = state
    return found


def named(file: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """As :func:`weights`, for whoever typed a command.

    Raises:
        RequestError: the file is missing, is no file of weights, or holds those of another network.
    """
    try:
        return weights(file, wanted)
    except (OSError, ValueError) as error:
        raise RequestError(f"{error}; the command of its run with force=true makes it again") from error


def misfit(state: Any, wanted: Mapping[str, Any], trained: str = "") -> str:
    """What makes a ``state`` another one than ``wanted``, or nothing."""
    if not isinstance(state, Mapping):
        return f"holds a {type(state).__name__} and not the weights of a network"
    if other := sorted(map(str, {*state} ^ {*wanted})):
        return f"is of another network (of {other[0]} only one of the two has weights)"
    for name, tensor in wanted.items():
        found = state[name]
        if not isinstance(tensor, Tensor):
            continue
        if not isinstance(found, Tensor) or described(found) != described(tensor):
            had = described(found) if isinstance(found, Tensor) else type(found).__name__
            return f"is of another network (its {name} is {had}, this network's {described(tensor)})"
        if name.startswith(trained) and not bool(found.isfinite().all()):
            return f"holds numbers that are not finite (in {name})"
    return ""


def described(tensor: Tensor) -> str:
    """Type, layout and shape of a tensor; where it has no data, that as well."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout != torch.strided or tensor.is_meta:
        kind += " without its numbers" if tensor.is_meta else f" ({tensor.layout})"
    return f"{kind} {tuple(tensor.shape)}"
