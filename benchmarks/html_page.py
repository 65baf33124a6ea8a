"""Size of a page of 50 subjects and 20 findings, and how long it takes to write it and to open it in chromium.

    python -m benchmarks.html_page

Needs the extra ``dev``, and chromium with its driver. Opening is measured by the browser itself, from the start of the
navigation to the end of loading, and to the first frame that shows something; the median of five.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from gradharness.report.html.page import render
from tests.report.pages import ABOUT, examples, many

ROUNDS = 5
TIMES = """
const [load] = performance.getEntriesByType("navigation");
const paint = performance.getEntriesByName("first-contentful-paint")[0];
return [load.loadEventEnd, paint ? paint.startTime : null];
"""


def opened(path: Path) -> tuple[float, float]:
    """Median seconds until the page is loaded, and until something is to be seen."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        seen = []
        for _ in range(ROUNDS):
            browser.get(path.as_uri())
            time.sleep(0.5)
            seen.append(browser.execute_script(TIMES))
        return median(load for load, _ in seen) / 1000, median(paint or load for load, paint in seen) / 1000
    finally:
        browser.quit()


def main() -> None:
    render(examples(), ABOUT)  # matplotlib loads its fonts once
    reports = many(50, 20)
    started = time.process_time()
    text = render(reports, ABOUT)
    seconds = time.process_time() - started
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(text, encoding="utf-8")
        load, paint = opened(path)
    print(f"50 subjects, 20 findings: {len(text.encode()) / 1e6:.2f} MB, made in {seconds:.1f} s of CPU time")
    print(f"chromium: first paint after {paint:.2f} s, loaded after {load:.2f} s")


if __name__ == "__main__":
    main()
