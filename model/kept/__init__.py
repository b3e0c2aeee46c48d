"""Features that were computed once, kept on disk for the next run over the same frames.

Three modules, from the disk up: `group` is the format of one file, `folder` the files together, bounded and shared by
processes, and `features` what a run asks and gives.
"""

from __future__ import annotations

from model.kept.features import KeptFeatures, Passage

__all__ = ["KeptFeatures", "Passage"]
