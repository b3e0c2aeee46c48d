"""The HTTP API: thin endpoints over records, storage and results. One resource, one file."""

from __future__ import annotations
