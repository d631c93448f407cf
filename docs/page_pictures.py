"""Take the pictures of the web page for page.md, in a headless Chromium.

    python docs/page_pictures.py [FOLDER]

`nano` cuts out the example; Chromium and its driver are needed, as for the tests.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path

from matting_pictures import ROOT
from PIL import Image

import birefnet

sys.path.insert(0, str(ROOT / "tests"))

from page_browser import Page, serving

SIZES = {"desktop": (1280, 976), "mobile": (390, 844)}


def main(folder: Path) -> None:
    """Write page_desktop.jpg, page_desktop_dark.jpg and the same for mobile."""
    picture = ROOT / "examples" / "astronaut.jpg"
    predictor = birefnet.load("nano")
    predictor.predict(picture)  # the page says how long a picture takes
    with serving(predictor) as url, tempfile.TemporaryDirectory() as profile:
        page = Page(url, Path(profile))
        try:
            for name, size in SIZES.items():
                for suffix in ("", "_dark"):
                    page.open(*size)
                    if suffix:
                        page.find(".page-lamp").click()
                    page.upload(picture)
                    page.run("window.scrollTo(0, 0); document.activeElement.blur()")
                    page.wait(lambda: not page.all(".is-revealing"))
                    _write(page, folder / f"page_{name}{suffix}.jpg")
                page.find(".page-lamp").click()  # light again
        finally:
            page.quit()


def _write(page: Page, path: Path) -> None:
    shot = page.driver.execute_cdp_cmd("Page.captureScreenshot", {})["data"]
    image = Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")
    image.save(path, quality=84, optimize=True, progressive=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
