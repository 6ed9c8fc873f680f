"""mace-cl: neural networks on OpenCL devices, compiled once and started at once after."""

from __future__ import annotations

__version__ = "0.1.0"
