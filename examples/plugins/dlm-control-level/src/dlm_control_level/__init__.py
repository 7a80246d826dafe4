"""Reading levels, A1 to C2, as a control."""

from __future__ import annotations

from dlm_control_level.controller import Level

__all__ = ["Level"]
