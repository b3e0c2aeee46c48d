"""The wire: what requests and answers look like, as pydantic models with examples."""

from __future__ import annotations
