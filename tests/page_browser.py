"""For tests of the page: a server with a stand-in network, and a headless Chromium."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from birefnet.inference.predictor import Predictor
from birefnet.serving.settings import ServerSettings
from fakes import BrightEngine
from live_server import live

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
PATIENCE = 30.0  # seconds; machines that run tests can be busy


@contextmanager
def serving(predictor: Predictor | None = None, **settings: Any) -> Iterator[str]:
    """A server on a free port; its network takes what is bright for the subject, unless one is
    given."""
    values = {"port": 0, "grace_s": 1, "max_bytes": 2 * 2**20, **settings}
    with live(predictor or BrightEngine(), ServerSettings(**values)) as server:
        yield server.url


class Page:
    """The page in a browser.

    Args:
        url: of the server.
        folder: for the browser's profile and its downloads.
    """

    def __init__(self, url: str, folder: Path) -> None:
        assert CHROMIUM is not None
        self.url, self.downloads = url, folder / "downloads"
        options = Options()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1280,900"):
            options.add_argument(flag)
        options.add_experimental_option(
            "prefs", {"download.default_directory": str(self.downloads)}
        )
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def open(self, width: int = 1280, height: int = 900) -> None:
        """A fresh visit."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(self.url)
        self.wait(lambda: self.find(".stage-drop").is_displayed())

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, found: Callable[[], Any]) -> Any:
        """What `found` gives as soon as that is true; elements may be missing until then."""
        end, error = time.monotonic() + PATIENCE, None
        while time.monotonic() < end:
            try:
                if value := found():
                    return value
            except Exception as missing:
                error = missing
            time.sleep(0.05)
        raise AssertionError(f"waited for {PATIENCE:g} s; the page says {self.words()!r}; {error}")

    def words(self) -> str:
        return str(self.run("return document.body.innerText"))[:2000]

    def upload(self, path: Path) -> None:
        """Choose a picture, and wait for its result."""
        self.find(".stage-file").send_keys(str(path))
        self.wait(lambda: self.find(".stage-after img").get_attribute("src") and self.is_idle())

    def is_idle(self) -> bool:
        return self.find(".stage").get_attribute("data-busy") is None

    def next_result(self, action: Callable[[], object]) -> None:
        """Do something, and wait for another result."""
        before = self.find(".stage-after img").get_attribute("src")
        action()
        self.wait(
            lambda: self.find(".stage-after img").get_attribute("src") != before and self.is_idle()
        )

    def tab(self, name: str) -> None:
        self.wait(lambda: [tab for tab in self.all("[role=tab]") if tab.text == name])[0].click()

    def pixel(self, selector: str, x: float, y: float) -> list[int]:
        """RGBA of a picture on the page, at shares of its sides."""
        return list(
            self.run(
                """const image = document.querySelector(arguments[0]);
                const canvas = document.createElement("canvas");
                canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
                const pen = canvas.getContext("2d");
                pen.drawImage(image, 0, 0);
                const at = [arguments[1] * canvas.width, arguments[2] * canvas.height];
                return [...pen.getImageData(Math.floor(at[0]), Math.floor(at[1]), 1, 1).data];""",
                selector,
                x,
                y,
            )
        )

    def downloaded(self, suffix: str) -> Path:
        """The file with this ending that was saved since the last call, once it is complete.

        It moves into a folder of its own, so that no later call finds it again and the browser
        need not number the next one.
        """

        def complete() -> Path | None:
            if any(self.downloads.glob("*.crdownload")):
                return None
            return next(path for path in self.downloads.glob(f"*{suffix}") if path.stat().st_size)

        saved = Path(self.wait(complete))
        return saved.rename(Path(tempfile.mkdtemp(dir=self.downloads.parent)) / saved.name)

    def requests(self) -> list[str]:
        """Addresses that the browser asked for since the last call."""
        messages = [
            json.loads(line["message"])["message"] for line in self.driver.get_log("performance")
        ]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def unnamed(self) -> list[str]:
        """Controls that a screen reader could not name."""
        tree = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        roles = {"button", "textbox", "slider", "combobox", "radio", "checkbox", "tab", "image"}
        roles |= {"spinbutton", "link", "switch"}
        found = []
        for node in tree:
            role = node.get("role", {}).get("value")
            if role in roles and not node["ignored"] and not node.get("name", {}).get("value"):
                inside = self.driver.execute_cdp_cmd(
                    "DOM.describeNode", {"backendNodeId": node["backendDOMNodeId"]}
                )["node"]
                found.append(f"{role}: {inside['nodeName']} {inside.get('attributes')}")
        return found

    def quit(self) -> None:
        self.driver.quit()
