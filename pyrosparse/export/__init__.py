"""Ways out of the library: ONNX, ``torch.export`` programs, safetensors."""

from __future__ import annotations

from pyrosparse.export.files import Exported
from pyrosparse.export.onnx import export_onnx
from pyrosparse.export.safetensors import export_safetensors
from pyrosparse.export.torch_export import export_torch

__all__ = ["Exported", "export_onnx", "export_safetensors", "export_torch"]
