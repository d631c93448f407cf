"""The validation split of nano, for the scripts beside this one."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.nano.split import is_held_out, pairs

__all__ = ["is_held_out", "pairs"]
