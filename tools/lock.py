"""Writes requirements.lock (what runs) and requirements-dev.lock (what checks it, on top) from pyproject.toml.

Each is what pip resolves in a new environment. Local version labels such as `+cpu` are left out: which build of torch
pip takes is the machine's matter. What torch itself wants beside it for CUDA it pins itself.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCH = "torch==2.13.0"
HEADER = "# Written by `make lock` from pyproject.toml; do not edit.\n"


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        runtime = _install(Path(folder), [TORCH, *project["dependencies"]])
        everything = _install(Path(folder), [TORCH, *project["optional-dependencies"]["dev"]])
    extra = [line for line in everything if line not in runtime]
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(runtime) + "\n")
    (ROOT / "requirements-dev.lock").write_text(HEADER + "-r requirements.lock\n" + "\n".join(extra) + "\n")


def _install(venv: Path, wanted: list[str]) -> list[str]:
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", *wanted], check=True)
    frozen = subprocess.run([*pip, "freeze", "--all"], check=True, capture_output=True, text=True).stdout
    lines = (re.sub(r"\+[\w.]+$", "", line) for line in frozen.splitlines() if "==" in line)
    return sorted(line for line in lines if not line.startswith(("pip==", "nvidia-", "triton==")))


if __name__ == "__main__":
    main()
