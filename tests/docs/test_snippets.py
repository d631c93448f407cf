"""The Python of pages runs as it is typed, block after block, with a stand-in for the Hub."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import birefnet
from integrations.hub_stand_in import hub

ROOT = Path(birefnet.__file__).parents[2]
PAGES = {"transformers.md": ("transformers", "accelerate"), "drop_in.md": ()}

pytestmark = [
    pytest.mark.skipif(not (ROOT / "docs").exists(), reason="installed without its repository"),
    pytest.mark.slow,
]
# An id that is not in the table, for the stand-in has nano's weights to give.
_OFFICIAL, _STAND_IN = "ZhengPeng7/BiRefNet", "me/nano"


@pytest.mark.parametrize("page", PAGES)
def test_page_runs(page: str, own_caches: None, tmp_path: Path) -> None:
    for package in PAGES[page]:
        pytest.importorskip(package)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace(_OFFICIAL, _STAND_IN)
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    served = tmp_path / "served"
    nano = served / _STAND_IN
    nano.parent.mkdir(parents=True)
    nano.symlink_to(Path(birefnet.__file__).parent / "weights" / "bundled" / "nano")
    with hub(served) as (address, _):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        environment |= {"HF_ENDPOINT": address, "HF_TOKEN": "hf_x"}
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(blocks)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr[-3000:]
