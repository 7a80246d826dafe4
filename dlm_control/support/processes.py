"""Several processes that share one run, as `accelerate launch` starts them."""

from __future__ import annotations

import os
from collections.abc import Callable


def processes() -> tuple[int, int, Callable[[], None]]:
    """This process's number, how many there are, and what waits for all of them."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return 0, 1, lambda: None
    from accelerate import PartialState

    state = PartialState(cpu=True)  # they wait for each other, and pass no tensors, wherever their models lie
    return state.process_index, state.num_processes, state.wait_for_everyone


def own_device(device: str) -> str:
    """The device of this process: under `accelerate launch`, of several GPUs its own."""
    rank = os.environ.get("LOCAL_RANK")
    return f"{device}:{rank}" if device == "cuda" and rank is not None else device
