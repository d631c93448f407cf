"""How long the page that runs in a browser alone takes, in a headless Chromium.

    python benchmarks/browser.py [PICTURE …] [--rounds 3]

Needs selenium, Chromium and its driver. Prints the best of several rounds: from the first byte of
the page to "ready", on the first visit and on a later one, and seconds a picture once ready, from
file to PNG; with threads and with one, with both views of nano and with each alone. The seconds a
picture are those of the second time it is cut out: in the first, the browser still compiles.
Measure on a quiet machine; the processor's time, which is printed too, suffers less from
neighbours. The seconds of `birefnet.load("nano", engine="onnx")` stand beside.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By

import birefnet
from birefnet.cli.in_browser import server_of
from birefnet.export.web import write_site
from birefnet.serving.running import address, bind
from birefnet.weights.locate import BUNDLED

ROOT = Path(__file__).resolve().parents[1]
VIEWS: dict[str, list[list[Any]]] = {
    "both views": [[704, 704, True], [256, 256, False]],
    "704 x 704": [[704, 704, True]],
    "256 x 256": [[256, 256, False]],
}
WAIT = 120  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pictures", nargs="*", type=Path, default=[ROOT / "examples/coffee.jpg"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--views", nargs="*", default=list(VIEWS), choices=list(VIEWS))
    options = parser.parse_args()
    for picture in options.pictures:
        print(f"{picture.name}: in Python, ONNX Runtime: {in_python(picture):.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        for views in options.views:
            site = Path(folder) / "site"
            write_site(with_views(Path(folder) / "model", VIEWS[views]), site)
            for threads in (0, 1):
                best: dict[str, float] = {}
                for _ in range(options.rounds):
                    for what, took in measure(site, threads, options.pictures).items():
                        best[what] = min(took, best.get(what, took))
                print(f"{views}, {'one thread' if threads else 'threads'}:")
                for what, took in best.items():
                    print(f"  {what:<28}{took:6.2f} s", flush=True)


def in_python(picture: Path) -> float:
    """Seconds from file to PNG, the best of three."""
    predictor = birefnet.load("nano", engine="onnx", device="cpu")
    took = []
    for _ in range(3):
        start = time.perf_counter()
        predictor.predict(picture).encode("png")
        took.append(time.perf_counter() - start)
    return min(took)


def with_views(folder: Path, views: list[list[Any]]) -> Path:
    """A model folder: nano with other views."""
    shutil.copytree(BUNDLED / "nano", folder, dirs_exist_ok=True)
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings["preprocess"]["looks"] = views
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def measure(site: Path, threads: int, pictures: list[Path]) -> dict[str, float]:
    """Seconds by what was done, in a browser that has never seen the page."""
    took: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as profile, bind("127.0.0.1", 0) as listening:
        server = server_of(site, listening)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = webdriver.ChromeOptions()
        settings.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
        for flag in ("--headless=new", "--no-sandbox", f"--user-data-dir={profile}"):
            settings.add_argument(flag)
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        with webdriver.Chrome(options=settings, service=service) as driver:
            driver.execute_cdp_cmd("Performance.enable", {})
            for visit in ("ready, first visit", "ready, later visit"):
                driver.get(f"{address(listening)}/?threads={threads or ''}")
                took[visit] = wait(driver, "document.body.dataset.ready")
            for picture in pictures:
                for _ in range(2):
                    before = processor_seconds(driver)
                    driver.find_element(By.CSS_SELECTOR, ".files").send_keys(str(picture))
                    took[picture.name] = wait(
                        driver, "document.querySelector('.film [data-seconds]')?.dataset.seconds"
                    )
                    took[f"{picture.name}, processor"] = processor_seconds(driver) - before
                    driver.execute_script("document.querySelector('.remove').click()")
        server.shutdown()
    return took


def processor_seconds(driver: webdriver.Chrome) -> float:
    """What the page's process has taken so far."""
    metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "ProcessTime"))


def wait(driver: webdriver.Chrome, value: str) -> float:
    """What an expression gives in the page, as soon as it gives something."""
    end = time.monotonic() + WAIT
    while not (found := driver.execute_script(f"return {value}")):
        if time.monotonic() > end:
            raise TimeoutError(f"nothing came in {WAIT} s")
        time.sleep(0.05)
    return float(found)


if __name__ == "__main__":
    main()
