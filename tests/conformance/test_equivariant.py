"""An E(3)-equivariant message-passing network for molecules, of the MACE architecture: the outputs of PyTorch.

The network is small and seeded, made with ``mace-torch`` and exported by ``torch.onnx``: spherical harmonics,
Bessel functions, tensor products, messages that are scattered to atoms, symmetric contractions.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mace_cl import Runtime
from mace_cl.device import Device
from support import Array, Outputs, difference

TOLERANCE = 1e-4
CUTOFF = 4.0
ELEMENTS = "HCO"
OUTPUTS = ["energy", "energy of each atom", "features of each atom"]

MOLECULES = {
    "water": ("OHH", [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]]),
    "methane": (
        "CHHHH",
        [[0, 0, 0], [0.63, 0.63, 0.63], [-0.63, -0.63, 0.63], [0.63, -0.63, -0.63], [-0.63, 0.63, -0.63]],
    ),
    "methanol": (
        "COHHHH",
        [[0, 0.66, 0], [0, -0.76, 0], [-1.04, 0.98, 0], [0.93, -1.06, 0], [0.49, 1.07, 0.89], [0.49, 1.07, -0.89]],
    ),
}  # fmt: skip

# PyTorch, e3nn and the exporter warn of what they will change.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

Network = Callable[..., Any]


@pytest.fixture(scope="module")
def network() -> Network:
    """A module: positions [atoms][3], elements (one-hot) [atoms][3], edges [2][edges], shifts [edges][3]; `OUTPUTS`."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript", reason="torch.onnx needs it")
    torch.serialization.add_safe_globals([slice])  # e3nn's tables hold slices
    pytest.importorskip("e3nn").set_optimization_defaults(jit_script_fx=False)  # torch.export takes no TorchScript
    o3 = pytest.importorskip("e3nn.o3")
    modules = pytest.importorskip("mace.modules")
    torch.manual_seed(0)
    mace = modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=len(ELEMENTS),
        hidden_irreps=o3.Irreps("16x0e + 16x1o"),
        MLP_irreps=o3.Irreps("8x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(len(ELEMENTS)),
        avg_num_neighbors=4.0,
        atomic_numbers=[1, 6, 8],
        correlation=3,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    ).eval()

    class Energy(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.mace = mace

        def forward(self, positions: Any, elements: Any, edges: Any, shifts: Any) -> tuple[Any, ...]:
            atoms = len(positions)
            molecule = {
                "positions": positions,
                "node_attrs": elements,
                "edge_index": edges,
                "shifts": shifts,
                "unit_shifts": shifts,
                "cell": torch.zeros(3, 3),
                "batch": torch.zeros(atoms, dtype=torch.long),
                "ptr": torch.tensor([0, atoms]),
            }
            result = self.mace(molecule, compute_force=False)
            return result["energy"], result["node_energy"], result["node_feats"]

    return Energy()


def inputs_of(name: str) -> Outputs:
    symbols, places = MOLECULES[name]
    positions = np.array(places, np.float32)
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    edges = np.stack(np.nonzero((distances < CUTOFF) & (distances > 0)))
    elements = np.eye(len(ELEMENTS), dtype=np.float32)[[ELEMENTS.index(symbol) for symbol in symbols]]
    shifts = np.zeros((edges.shape[1], 3), np.float32)
    return {"positions": positions, "elements": elements, "edges": edges, "shifts": shifts}


def moved(positions: Array) -> Array:
    """Reflected or rotated about some axis, then shifted."""
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    return np.asarray(positions @ turn + [1.0, -2.0, 0.5], np.float32)


@pytest.mark.parametrize("name", MOLECULES)
def test_a_molecule(network: Network, device: Device, name: str) -> None:
    import torch

    inputs = inputs_of(name)
    arguments = tuple(torch.from_numpy(value) for value in inputs.values())
    with torch.no_grad():
        expected = dict(zip(OUTPUTS, (value.numpy() for value in network(*arguments)), strict=True))
    file = io.BytesIO()
    torch.onnx.export(
        network, arguments, dynamo=True, input_names=list(inputs), output_names=OUTPUTS, verbose=False
    ).save(file)  # fmt: skip
    with Runtime(file.getvalue(), device=device, store=False) as runtime:
        outputs = runtime.run(inputs)
        elsewhere = runtime.run(inputs | {"positions": moved(inputs["positions"])})
        hosts = [place for place in runtime.where if place.on == "host"]
    assert outputs.keys() == expected.keys()
    for output in OUTPUTS:
        assert difference(outputs[output], expected[output]) <= TOLERANCE, output
    for output in OUTPUTS[:2]:
        assert difference(elsewhere[output], expected[output]) <= TOLERANCE, output
    assert difference(elsewhere[OUTPUTS[2]], expected[OUTPUTS[2]]) > 0.01, "vectors turn with the molecule"
    assert not hosts
