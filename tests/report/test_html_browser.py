"""The page in a real browser: what is there, that it fits, that it copies, and that it asks nobody for anything."""

import json
import shutil
from functools import cache

import pytest

from gradharness.report.html.page import render
from tests.report.pages import ABOUT, SCRIPT, examples, failed, finding, heat_map, shown

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs chromium and its driver: apt-get install chromium chromium-driver"
)

PHONE, DESK = 400, 1400
REPLAY = "gradharness check test_ops.py::test_wrong --checks vjp --device cpu --dtype float64 --seed 17"


@cache
def source():
    """A page with everything, among it what is too wide for a phone."""
    wide = finding(
        message="long_" * 60, reproducer="x = " + "1 + " * 200 + "1\n", exhibits=(heat_map(40, 64),), check="layout"
    )
    return render([*examples(), shown("test_" + "wide_" * 30, failed("layout", wide))], ABOUT)


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("selenium", reason="needs selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the page in a width and a scheme."""

    def opened(width=DESK, scheme="light"):
        path = tmp_path / "page.html"
        path.write_text(source(), encoding="utf-8")
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for kind in ("browser", "performance"):
            browser.get_log(kind)  # what came before is not this page's
        browser.get(path.as_uri())
        return browser

    return opened


def script(browser, text, *arguments):
    return browser.execute_script(text, *arguments)


def test_every_section_picture_and_button_is_to_be_seen(opened):
    browser = opened()
    script(browser, "for (const d of document.querySelectorAll('details')) d.open = true")
    for selector, least in {
        "#summary, #findings, #subjects": 3,
        "article.finding": 4,
        "article.finding figure": 5,
        "figure svg": 7,
        "button.copy": 7,
        "details.subject table": 4,
    }.items():
        boxes = script(
            browser,
            "return [...document.querySelectorAll(arguments[0])].map(e => { const b = e.getBoundingClientRect();"
            " return [b.width, b.height]; })",
            selector,
        )
        assert len(boxes) >= least, (selector, boxes)
        assert all(width > 20 and height > 10 for width, height in boxes), (selector, boxes)
    drawn = script(
        browser,
        "return [...document.querySelectorAll('figure svg')].map(s => s.querySelectorAll('path, rect, image').length)",
    )
    assert min(drawn) > 1


@pytest.mark.parametrize("width", [320, PHONE, DESK])
def test_the_page_never_scrolls_sideways(opened, width):
    browser = opened(width)
    script(browser, "for (const d of document.querySelectorAll('details')) d.open = true")
    root = script(browser, "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]")
    assert root[0] <= root[1] <= width
    beyond = script(
        browser,
        """return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre, svg, .skip, .unseen')
            && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))""",
    )
    assert beyond == []


def test_nothing_is_asked_for_and_nothing_complained_of(opened):
    browser = opened()
    assert [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert any(url.startswith("file:") for url in asked)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1


def test_no_script_but_the_own_one_runs(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(source().replace("</main>", "<script>document.title = 'taken'</script></main>"), encoding="utf-8")
    browser.get(path.as_uri())
    assert browser.title.endswith("gradharness")
    browser.get_log("browser")


def clipboard(browser):
    return browser.execute_async_script("navigator.clipboard.readText().then(arguments[0], e => arguments[0](`${e}`))")


def granted(browser):
    for name in ("clipboard-read", "clipboard-write"):
        browser.execute_cdp_cmd("Browser.setPermission", {"permission": {"name": name}, "setting": "granted"})


@pytest.mark.parametrize("key", ["click", "Enter", " "])
def test_a_button_copies_and_says_so(opened, key):
    browser = opened()
    granted(browser)
    script(browser, "for (const d of document.querySelectorAll('details')) d.open = true")
    for kind, wanted in (("replay", REPLAY), ("reproducer", SCRIPT)):
        button = browser.find_element("css selector", f"article.finding [data-copy$='-{kind}']")
        if key == "click":
            script(browser, "arguments[0].scrollIntoView({block: 'center'})", button)
            button.click()
        else:
            button.send_keys({"Enter": "\ue007"}.get(key, key))
        said = browser.execute_async_script(
            """const [button, done] = arguments, start = Date.now();
            const look = () => button.textContent !== "Copy" || Date.now() - start > 5000
                ? done([button.textContent, document.getElementById("status").textContent]) : setTimeout(look, 20);
            look();""",
            button,
        )
        assert said == ["Copied", "Copied to the clipboard."]
        assert clipboard(browser) == wanted


def test_where_there_is_no_clipboard_a_selection_is_copied(opened):
    browser = opened()
    granted(browser)
    script(browser, "navigator.clipboard.writeText = () => Promise.reject(new Error('none'))")
    button = browser.find_element("css selector", "[data-copy$='-replay']")
    script(browser, "arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert button.text == "Copied"
    assert clipboard(browser) == REPLAY


def test_a_link_opens_what_it_leads_to(opened):
    browser = opened()
    script(browser, "document.querySelector('#subjects details').open = false")
    link = browser.find_element("css selector", "article.finding .kicker a")
    script(browser, "arguments[0].click()", link)
    browser.execute_async_script("setTimeout(arguments[0], 100)")
    assert script(browser, "return document.querySelector(location.hash).open")


CONTRAST = """
const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
const linear = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c;
  }
  return [255, 255, 255];
};
return [...document.querySelectorAll("body *")].flatMap((e) => {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!own || e.closest(".unseen, .skip, script, style") || !e.getClientRects().length) return [];
  const style = getComputedStyle(e);
  const [a, b] = [light(parse(e.closest("svg") ? style.fill : style.color)), light(behind(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  return ratio < 4.5 ? [`${ratio.toFixed(2)} ${e.tagName} ${e.className} ${e.textContent.slice(0, 40)}`] : [];
});
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(opened, scheme):
    browser = opened(PHONE, scheme)
    script(browser, "for (const d of document.querySelectorAll('details')) d.open = true")
    assert script(browser, CONTRAST) == []


def test_the_schemes_differ(opened):
    colours = {
        scheme: script(opened(DESK, scheme), "return getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    }
    assert colours["light"] != colours["dark"]
