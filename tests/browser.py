"""A real browser for the tests of the page: Debian's Chromium, through selenium, with no way to any network."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

DRIVER, CHROMIUM = Path("/usr/bin/chromedriver"), Path("/usr/bin/chromium")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--force-prefers-reduced-motion",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1280,900", "--hide-scrollbars", "--no-first-run",
)


def require(what: str, found: object) -> None:
    """Skips the test where a part of the browser is missing; with MINIBERT_REQUIRE_BROWSER=1 that is a failure."""
    if not found:
        reason = (
            f"{what} is missing: these tests take the extra `test`, Debian's chromium and chromium-driver, "
            "and axe-core by `pip install --no-deps axe-playwright-python`"
        )
        if os.environ.get("MINIBERT_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A driver with a profile of its own; what the page logs and asks for can be read from it."""
    require("selenium", importlib.util.find_spec("selenium"))
    require("chromedriver", DRIVER.exists())
    require("chromium", CHROMIUM.exists())
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.set_script_timeout(30)
    driver.get("about:blank")  # away from the browser's own page, which asks for much
    try:
        yield driver
    finally:
        driver.quit()


def axe() -> str:
    """axe-core's script, from the wheel that carries it; the wheel itself is not imported."""
    spec = importlib.util.find_spec("axe_playwright_python")
    require("axe-playwright-python", spec)
    assert spec is not None
    found = next((path for folder in spec.submodule_search_locations or () for path in Path(folder).rglob("axe.min.js")), None)
    require("axe.min.js", found)
    assert found is not None
    return found.read_text(encoding="utf-8")
