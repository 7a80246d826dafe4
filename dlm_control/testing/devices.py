"""Do all tensors of an operation lie on one device? Seen on torch's meta device, so that no GPU is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class MixedDevicesError(RuntimeError):
    """An operation had tensors of two devices."""


class OneDevice(TorchDispatchMode):
    """Under it an operation on tensors of two devices raises, on the meta device as on a real one.

    As on a real one, a single number or an index may lie on the CPU. A mask without values counts as true everywhere.

    Raises:
        MixedDevicesError: an operation on tensors of two devices.
    """

    _copies = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    _indexings = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs, asked = kwargs or {}, [*args, kwargs]
        if func in self._indexings:
            args = [args[0], _without_masks(args[1]), *args[2:]]
            asked = [args[0], [index for index in args[1] if index is not None and not index.is_cpu], *args[2:]]
        tensors = [each for each in tree_leaves(asked) if isinstance(each, Tensor) and each.ndim > 0]
        devices = sorted({str(each.device) for each in tensors})
        if len(devices) > 1 and func not in self._copies:
            shapes = ", ".join(f"{tuple(each.shape)} on {each.device}" for each in tensors)
            raise MixedDevicesError(
                f"mixes devices in {func}: {shapes}; make tensors in bind() on lm.device, or with device=state.x_t.device"
            )
        if func is torch.ops.aten.nonzero.default and args[0].is_meta:
            return torch.empty(args[0].numel(), args[0].ndim, dtype=torch.long, device="meta")
        return func(*args, **kwargs)


def _without_masks(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Indices with numbers in place of masks that have no values: one a dimension, for every place of the mask."""
    found: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.is_meta and index.dtype == torch.bool:
            found += [torch.empty(index.numel(), dtype=torch.long, device="meta")] * index.ndim
        else:
            found.append(index)
    return found
