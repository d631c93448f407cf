"""How long the page that runs in a browser alone takes, in a headless Chromium.

    python benchmarks/browser.py [PICTURE …] [--rounds 3]

Needs selenium, Chromium and its driver. Prints the best of several rounds: from the first byte of
the page to "ready", on the first visit and on a later one, and seconds a picture once ready, from
file to PNG; with threads and with one, with both views of nano and with each alone. The seconds a
picture are those of the second time it is cut out: in the first, the browser still compiles.
Measure on a quiet machine: the seconds of `birefnet.load("nano", engine="onnx")` stand beside.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from selenium import webdriver
from selenium.webdriver.common.by import By

import birefnet
from birefnet.export.web import write_site
from birefnet.serving.running import address, bind
from birefnet.serving.static import server_of
from birefnet.weights.local import BUNDLED

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
        predictor = birefnet.load("nano", engine="onnx", device="cpu")
        seconds = [timed(lambda: predictor.predict(picture).encode("png")) for _ in range(3)]  # noqa: B023
        print(f"{picture.name}: the command's engine, without the process: {min(seconds):.2f} s")
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


def timed(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def with_views(folder: Path, views: list[list[Any]]) -> Path:
    """A model folder: nano with other views."""
    shutil.copytree(BUNDLED / "nano", folder, dirs_exist_ok=True)
    settings = json.loads((folder / "config.json").read_text())
    settings["preprocess"]["looks"] = views
    (folder / "config.json").write_text(json.dumps(settings))
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
            for visit in ("ready, first visit", "ready, later visit"):
                driver.get(f"{address(listening)}/?threads={threads or ''}")
                wait(lambda: driver.execute_script("return document.body.dataset.ready"))
                took[visit] = driver.execute_script("return Number(document.body.dataset.ready)")
            for picture in pictures:
                for _ in range(2):
                    driver.find_element(By.CSS_SELECTOR, ".files").send_keys(str(picture))
                    script = "return document.querySelector('.film [data-seconds]')?.dataset.seconds"
                    seconds = wait(lambda: driver.execute_script(script))  # noqa: B023
                    driver.execute_script("document.querySelector('.remove').click()")
                took[picture.name] = float(seconds)
        server.shutdown()
    return took


def wait(value: Any) -> Any:
    end = time.monotonic() + WAIT
    while not (found := value()):
        if time.monotonic() > end:
            raise TimeoutError(f"nothing came in {WAIT} s")
        time.sleep(0.05)
    return found


if __name__ == "__main__":
    main()
