"""The commands that speak to a CVAT server use the stand-in of the integrations' tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_path = Path(__file__).parents[1] / "integrations" / "conftest.py"
_spec = importlib.util.spec_from_file_location("integrations_conftest", _path)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
cvat, stand_in = _module.cvat, _module.stand_in
