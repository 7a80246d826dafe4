"""Random numbers that depend only on their purpose, not on what else runs."""

from __future__ import annotations

import hashlib

import torch


def seeded(*key: int | str) -> torch.Generator:
    """A generator of random numbers for a key, such as a seed, an index and a purpose: equal keys, equal numbers."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
