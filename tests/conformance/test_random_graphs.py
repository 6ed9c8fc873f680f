"""A few random graphs at each run; ``random_graphs.py`` runs as many as one likes."""

from __future__ import annotations

from mace_cl.device import Device
from random_graphs import explore


def test_agreement(device: Device) -> None:
    routes = explore(device.runtime, graphs=40, number=7)
    assert sum(routes[route] for route in ("wholly on OpenCL", "partly on the host")) > 20
