"""The report in headless Chromium: figures have content, nothing overflows, at three widths, in the dark, on paper, without scripts."""

from __future__ import annotations

import pytest

from tests.browser import Browser, find_chromium
from tests.report_runs import reported

OVERFLOW = """(() => {
  const bad = [], width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) bad.push("page: " + document.documentElement.scrollWidth + " of " + width);
  for (const e of document.querySelectorAll("main *")) {
    const r = e.getBoundingClientRect();
    if (!e.closest(".scroll") && !e.closest("svg") && r.width && (r.right > width + 1 || r.left < -1)) bad.push(e.outerHTML.slice(0, 80));
  }
  for (const s of document.querySelectorAll("svg")) {
    const b = s.getBoundingClientRect();
    if (!b.width) continue;
    const boxes = [...s.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
    for (const [text, r] of boxes)
      if (r.right > b.right + 2 || r.left < b.left - 2 || r.bottom > b.bottom + 3 || r.top < b.top - 4)
        bad.push(s.dataset.name + " outside: " + text);
    boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, c]) => {
      const w = Math.min(a.right, c.right) - Math.max(a.left, c.left), h = Math.min(a.bottom, c.bottom) - Math.max(a.top, c.top);
      if (w > 2 && h > 4) bad.push(s.dataset.name + " labels meet: " + one + " / " + other);
    }));
  }
  return bad;
})()"""
FIGURES = """[...document.querySelectorAll("figure")].map(f => {
  const s = f.querySelector("svg"), shapes = [...s.querySelectorAll("rect, path, line, image, use")];
  const seen = shapes.filter(e => { const r = e.getBoundingClientRect(); return r.width + r.height > 0.5; });
  return {name: s.dataset.name, shapes: seen.length, alt: (s.getAttribute("aria-label") || "").length,
    width: s.getBoundingClientRect().width, says: f.querySelector("figcaption").textContent.trim().length,
    rows: f.querySelectorAll("tr").length, card: f.className};
})"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium on this machine (set CHROMIUM to one)")
    page = Browser(path, tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture(scope="module")
def shared(browser, tmp_path_factory):  # nothing is built where there is no browser
    return reported(tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize("width, dark, media", [(400, False, ""), (800, True, ""), (1200, False, ""), (720, True, "print")])
def test_every_figure_has_content_and_nothing_overflows(shared, browser, width, dark, media):
    browser.open((shared / "both/report.html").as_uri(), width, dark=dark, media=media)
    assert browser.ask("document.documentElement.clientWidth") == width
    assert browser.ask(OVERFLOW) == []
    figures = browser.ask(FIGURES)
    names = [f["name"] for f in figures]
    for kind in ("energy", "ops", "saving", "tokens", "map", "spikes", "cores", "use", "steps", "terms"):
        assert any(n.startswith(f"{kind}-") for n in names), kind
    assert len(set(names)) == len(names)
    for f in figures:
        assert f["alt"] > 20 and f["says"] > 10, f
        assert f["card"] or (f["shapes"] >= 4 and f["width"] > 250 and f["rows"] > 1), f
    background = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert (background != "rgb(255, 255, 255)") == (dark and not media)


@pytest.mark.parametrize("width", [400, 1200])
def test_a_net_that_does_not_fit_says_so_and_overflows_nothing(shared, browser, width):
    browser.open((shared / "full/report.html").as_uri(), width)
    assert browser.ask(OVERFLOW) == []
    said = browser.ask('document.querySelector("#cores-stas-digits figcaption").textContent')
    assert "Does not fit: isps.conv sends graded spikes" in said


def test_the_slider_shows_one_timestep_and_block_at_a_time(shared, browser):
    browser.open((shared / "both/report.html").as_uri(), 800)
    shown = 'new Set([...document.querySelectorAll(".frame")].filter(f => f.style.visibility === "visible").map(f => f.dataset.frame))'
    for value, told in ((0, "the image"), (1, "timestep 1, block 1"), (8, "timestep 4, block 2")):
        browser.ask(f'(r => {{ r.value = {value}; r.dispatchEvent(new Event("input")); }})(document.querySelector("input[type=range]"))')
        assert browser.ask('document.querySelector("output").textContent') == told
        assert browser.ask(f"[...{shown}]") == ([str(value)] if value else [])


def test_the_page_works_without_scripts_and_on_paper(shared, browser):
    browser.open((shared / "both/report.html").as_uri(), 400, scripts=False)
    assert browser.ask('document.querySelector(".slider").offsetHeight') == 0  # nothing that would do nothing
    assert browser.ask('document.querySelector(".card svg + svg").getBoundingClientRect().height') > 50
    assert browser.pdf().startswith(b"%PDF")
