"""The page as a reader meets it: in a browser, without network, with names that would do harm."""

import json
import re

import numpy as np
import pytest

from craft_jax import streams
from craft_jax.report import __main__ as report
from craft_jax.report import compare, sections, studies
from craft_jax.report.page import accuracies, build, corrupted, images, render
from tests.report import chromium, fabricated

pytestmark = pytest.mark.skipif(
    not render.is_there(), reason="vl-convert-python is not installed (requirements-report.txt)"
)
in_browser = pytest.mark.skipif(
    chromium.PROGRAM is None, reason="no chromium on PATH (apt-get install chromium)"
)

HARMFUL = ("<script>", '"><img src=x onerror=window.harmed=1>', "a & b's")
ARMS = {
    **{HARMFUL[0]: ("craft", 63.8), HARMFUL[1]: ("kd", 62.6), HARMFUL[2]: ("erm", 56.7)},
    **{f"arm{i}": ("kd", 60.0 + i) for i in range(7)},
}
PLANNED = [(HARMFUL[0], HARMFUL[1], "robust"), ("arm1", "arm0", "robust")]


@pytest.fixture(autouse=True)
def without_page():
    """These tests are of the page."""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of 60 runs; its figures are not written as files."""
    folder = tmp_path_factory.mktemp("page")
    path = fabricated.whole_study(folder / "study", ARMS, 6, PLANNED, HARMFUL[1])
    manifest = folder / "study" / "study.json"
    question = "</script><script>window.harmed=1</script>\n\n    one command\n    another <one>"
    tree = json.loads(manifest.read_text()) | {"question": question}
    manifest.write_text(json.dumps(tree))
    study = studies.read(path)
    told = [(study, sections.tables_of(study))]
    sections.write(folder / "out", told)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "write", touch)  # drawing them takes long, and is tested of two
        return build.write(folder / "out", told)


def touch(folder, figures):
    folder.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        for kind in ("svg", "png"):
            (folder / f"{figure.name}.{kind}").touch()


@pytest.fixture(scope="module")
def browser(tmp_path_factory, page):
    """A browser that has the page open, drawn."""
    with chromium.Browser(tmp_path_factory.mktemp("profile")) as browser:
        browser.look(1400)
        browser.open(page)
        browser.wait("document.documentElement.dataset.drawn === 'yes'")
        yield browser


def count(browser, selector):
    return browser.run(f"document.querySelectorAll({json.dumps(selector)}).length")


def test_a_study_of_60_runs_is_small(page):
    assert page.stat().st_size < 5_000_000


@in_browser
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
def test_it_is_quiet_and_fits(browser, page, width, scheme):
    browser.run("document.documentElement.dataset.drawn = ''")
    browser.look(width, scheme=scheme)
    browser.run("drawAll()")
    assert browser.errors == []
    assert set(browser.requests) == {page.resolve().as_uri()}
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert count(browser, "figure.figure .plot svg") == count(browser, "figure.figure") >= 18
    too_wide = "svg => svg.width.baseVal.value > svg.closest('.plot').clientWidth + 1"
    found = f"[...document.querySelectorAll('.plot svg')].filter({too_wide})"
    assert browser.run(f"{found}.map(svg => svg.closest('figure').id)") == []
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 23, 26)")


@in_browser
def test_names_and_texts_do_no_harm(browser):
    assert browser.run("window.harmed") is None
    assert count(browser, "img, article script") == 0
    chips = browser.run("[...document.querySelectorAll('.arm')].map(e => e.textContent)")
    assert chips == list(ARMS)
    assert "</script><script>window.harmed=1</script>" in browser.run(
        "document.querySelector('header').innerText"
    )
    assert browser.run("document.querySelector('header pre').textContent") == "one command\nanother <one>"


@in_browser
def test_an_arm_is_hidden_everywhere_at_once(browser):
    def shown():
        points = ".plot svg path[aria-label*='arm: arm3']"
        is_one = "row => !row.hidden && row.cells[0].innerText === 'arm3'"
        rows = browser.run(f"[...document.querySelectorAll('tr')].filter({is_one}).length")
        return count(browser, points), rows

    points, rows = shown()
    assert points > 20 and rows > 7
    browser.click(".arm[data-arm=arm3]")
    browser.run("showArms(document.querySelector('article'))")
    assert shown() == (0, 0)
    browser.click(".all")
    browser.run("showArms(document.querySelector('article'))")
    assert shown() == (points, rows)


@in_browser
def test_tables_sort_and_filter(browser):
    browser.look(1400)
    arms = "[...document.querySelectorAll('.table')].find(t => t.innerText.startsWith('Arms'))"
    browser.run(f"{arms}.id = 'the-arms'")
    shown = "[...document.querySelectorAll('#the-arms tbody tr')].filter(row => !row.hidden)"
    column = f"{shown}.map(row => parseFloat(row.cells[3].innerText))"
    browser.click("#the-arms th:nth-child(4) button")
    up = browser.run(column)
    assert len(up) == len(ARMS) and up == sorted(up)
    browser.click("#the-arms th:nth-child(4) button")
    assert browser.run(column) == up[::-1]
    box = "document.querySelector('#the-arms input')"
    browser.run(f"{box}.value = 'arm5'; {box}.dispatchEvent(new Event('input'))")
    assert len(browser.run(column)) == 1
    browser.run(f"{box}.value = ''; {box}.dispatchEvent(new Event('input'))")
    assert len(browser.run(column)) == len(ARMS)


@in_browser
def test_text_is_not_sorted_as_numbers(browser):
    assert browser.run("compare('7f', '7a', false)") > 0
    assert browser.run("['10', '-2', '9'].sort((a, b) => compare(a, b, true))") == ["-2", "9", "10"]
    assert browser.run("['-', ''].every(text => isMissing(text, true)) && !isMissing('-', false)")


@in_browser
def test_hovering_shows_values(browser):
    browser.look(1400)
    browser.run("drawAll()")
    browser.hover("#s0-scatter [aria-label*='seeds: 6']")
    browser.wait("!document.getElementById('tip').hidden")
    text = browser.run("document.getElementById('tip').innerText")
    assert "seeds\n6" in text and "robust" in text


@in_browser
def test_everything_that_can_be_clicked_is(browser):
    before = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.click("#theme")
    assert browser.run("getComputedStyle(document.body).backgroundColor") != before
    browser.click("#theme")
    browser.click("nav a:last-child")
    assert browser.run("location.hash") == "#s0-tables"
    browser.run("document.querySelectorAll('th button, summary').forEach(e => e.click())")
    assert browser.run("[...document.querySelectorAll('details')].every(e => e.open)")
    assert browser.errors == []


def test_what_stands_beside_the_page(page):
    linked = set(re.findall(r'href="((?:figures|tables)/[^"]+)"', page.read_text()))
    there = {str(path.relative_to(page.parent)) for path in page.parent.glob("*/*")}
    assert linked == there and len(linked) > 40


def test_a_study_with_everything_lacks_no_figure_but_images(page):
    text = page.read_text()
    for name in ("alignment", "fragility", "curve", "calibration", "reliability", "planned"):
        assert f'<figure class="figure wide" id="s0-{name}"' in text or f'id="s0-{name}"><h3>' in text
    assert re.findall('<figure class="absent" id="s0-([a-z]+)"', text) == ["images"]


def test_two_runs_on_a_page(tmp_path, digits, monkeypatch):
    """With the images that changed sides, from the data set as it was when they were measured."""
    monkeypatch.setattr(images.data, "load", lambda config: digits)
    monkeypatch.setattr(render, "write", touch)
    data = {"data": {"fingerprint": digits.fingerprint}, "draws": streams.DRAWS, "examples": 40}
    right = {"kd": np.arange(40) < 30, "erm": np.arange(40) < 24}
    for name, bits in right.items():
        accuracy = 100 * float(bits.mean())
        levels = {"corruptions": {"contrast": [None] * 4 + [accuracy]}, "robust_accuracy": accuracy}
        one = fabricated.whole_result(name, name, 0, 50.0, clean_accuracy=accuracy, **levels, **data)
        one["config"]["eval"]["max_examples"] = 0
        fabricated.write(tmp_path / name / "results.json", one)
        fabricated.correctness(tmp_path / name / "results.npz", {"clean": bits, "contrast/5": bits})
        fabricated.metrics(tmp_path / name / "metrics.jsonl", name, 0)
    paths = [str(tmp_path / name) for name in right]
    out = tmp_path / "out"
    assert report.main(["compare", *paths, f"--out={out}"]) == 0
    text = (out / "index.html").read_text()
    assert "2 images right by kd (seed 0), wrong by erm (seed 0), and 0 images" in text
    assert (out / "figures" / "images.png").read_bytes().startswith(b"\x89PNG")
    assert not re.findall('<figure class="absent" id="([^"]+)"', text)
    data["draws"] = "others"
    for name in right:
        fabricated.write(
            tmp_path / name / "results.json",
            json.loads((tmp_path / name / "results.json").read_text()) | data,
        )
    missing = images.of_runs(*compare.read(paths).runs).missing
    assert missing == "not shown: its images cannot be made again, other draws now"


def test_figures_are_files_in_light_colours(tmp_path):
    arms = {"kd": ("kd", 62.0), "erm": ("erm", 57.0)}
    study = studies.read(fabricated.whole_study(tmp_path / "s", arms, 2, baseline="erm"))
    render.write(tmp_path, [accuracies.methods(study), corrupted.by_corruption(study)])
    svg = (tmp_path / "corruptions.svg").read_text()
    assert "var(--" not in svg and "#0072b2" in svg
    assert ">erm</text>" in svg  # the key of what nothing else names
    for name in ("methods", "corruptions"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
