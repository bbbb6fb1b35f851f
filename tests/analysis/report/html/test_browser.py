"""The page in a real headless browser: it opens from disk, sorts, filters, prints, fits a phone, and runs no output."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from specbench_s2d.analysis.report.html.page import write_page
from specbench_s2d.analysis.report.plots import draw
from specbench_s2d.analysis.tables.series import PlotTables
from tests.analysis.report.html.pages import WILD, records, run, table

pytestmark = pytest.mark.usefixtures("pictures")

BROWSERS = ("chromium", "google-chrome", "chromium-browser", "chrome")
FULL = "#run1-target1 details"


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """Headless Chromium; skips where there is none, unless SPECBENCH_BROWSER=required, as in CI."""
    driver = shutil.which(
        "chromedriver", path=f"{os.environ.get('CHROMEWEBDRIVER', '')}{os.pathsep}{os.environ['PATH']}"
    )
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if driver is None or program is None:
        missing = f"no {'chromedriver' if driver is None else 'Chromium or Chrome'} on the PATH"
        assert os.environ.get("SPECBENCH_BROWSER") != "required", missing
        pytest.skip(missing)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Containers run tests as root and with a small /dev/shm.
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(flag)
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "FORMATS", ("svg",))
        plots = draw.draw_all(PlotTables.of(records(), table()), folder)
    write_page([run(plots=plots)], folder / "report.html")
    return folder / "report.html"


@pytest.fixture
def opened(browser: webdriver.Chrome, page_file: Path) -> webdriver.Chrome:
    """The page, freshly opened from disk, with the logs of what came before thrown away."""
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(page_file.as_uri())
    return browser


def column(opened: webdriver.Chrome, table: WebElement, heading: str) -> list[str]:
    """The first line of each visible cell below a heading."""
    headings = [th.text for th in table.find_elements(By.CSS_SELECTOR, "thead th")]
    place = headings.index(heading) + 1
    cells = table.find_elements(By.CSS_SELECTOR, f"tbody tr:not([hidden]) td:nth-child({place})")
    return [str(opened.execute_script("return arguments[0].firstChild.textContent", cell)) for cell in cells]


def button(table: WebElement, heading: str) -> WebElement:
    return next(b for b in table.find_elements(By.CSS_SELECTOR, "th button") if b.text == heading)


def test_it_opens_from_disk_without_an_error_and_asks_for_nothing(opened: webdriver.Chrome, page_file: Path) -> None:
    assert opened.title == "small · specbench-s2d"
    assert len(opened.find_elements(By.CSS_SELECTOR, "figure svg")) >= 2
    assert opened.get_log("browser") == []
    sent = [e["message"] for e in opened.get_log("performance") if '"Network.requestWillBeSent"' in e["message"]]
    assert len(sent) == 1 and page_file.as_uri() in sent[0]


def test_headings_sort_by_number_both_ways_and_missing_comes_last(opened: webdriver.Chrome) -> None:
    table = opened.find_element(By.CSS_SELECTOR, "#run1-target1 table")
    head = button(table, "RAG")
    head.click()
    assert column(opened, table, "RAG") == ["1.00", "10.00", "–", "–"]
    head.click()
    assert column(opened, table, "RAG") == ["10.00", "1.00", "–", "–"]
    button(table, "all suites").click()
    assert column(opened, table, "all suites") == ["0.25", "0.50", "1.00", "10.00"]
    sorted_by = table.find_elements(By.CSS_SELECTOR, "th[aria-sort]")
    assert [(th.text, th.get_attribute("aria-sort")) for th in sorted_by] == [("all suites", "ascending")]


def test_headings_sort_from_the_keyboard(opened: webdriver.Chrome) -> None:
    table = opened.find_element(By.CSS_SELECTOR, "#run1-target1 table")
    button(table, "decoder").send_keys(Keys.ENTER)
    assert column(opened, table, "decoder") == ["ar", "mjsd †", "s2d", "sd"]


def test_rows_filter_by_every_word(opened: webdriver.Chrome) -> None:
    opened.execute_script(f"document.querySelector('{FULL}').open = true")
    full = opened.find_element(By.CSS_SELECTOR, FULL)
    box = full.find_element(By.CSS_SELECTOR, "input")
    box.send_keys("QA s2d")
    table = full.find_element(By.CSS_SELECTOR, "table")
    assert column(opened, table, "decoder") == ["s2d"] and column(opened, table, "suite") == ["QA"]
    assert full.find_element(By.CSS_SELECTOR, "output").text == "1 of 11 rows"
    box.send_keys(Keys.CONTROL, "a", Keys.DELETE)
    assert len(column(opened, table, "decoder")) == 11


def test_model_output_stays_text(opened: webdriver.Chrome) -> None:
    texts = opened.execute_script("return [...document.querySelectorAll('.example pre')].map(e => e.textContent)")
    assert WILD in texts
    assert opened.title == "small · specbench-s2d"
    assert opened.find_elements(By.CSS_SELECTOR, "img, .example script") == []


def test_a_phone_scrolls_tables_not_the_page(opened: webdriver.Chrome) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        opened.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
        page, box = opened.execute_script(
            "const box = document.querySelector('.box');"
            "return [document.documentElement.scrollWidth, box.scrollWidth > box.clientWidth]"
        )
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert page == 390 and box


def test_paper_shows_what_is_folded_and_folds_it_again(opened: webdriver.Chrome) -> None:
    opened.execute_script(
        "window.addEventListener('beforeprint', () => {"
        "  window.folded = document.querySelectorAll('details:not([open])').length"
        "})"
    )
    opened.print_page()
    assert opened.execute_script("return window.folded") == 0
    assert opened.find_elements(By.CSS_SELECTOR, "details[open]") == []


def test_without_scripts_all_is_there(opened: webdriver.Chrome) -> None:
    opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened.refresh()
        assert opened.find_elements(By.CSS_SELECTOR, "th button, input") == []
        full = opened.find_element(By.CSS_SELECTOR, FULL)
        full.find_element(By.CSS_SELECTOR, "summary").click()
        assert full.find_element(By.CSS_SELECTOR, "table").is_displayed()
    finally:
        opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
