"""The page in a real browser, by mouse and by keyboard.

These tests need Chromium: `chromium` or `chromium-browser` on the PATH, or HYBRID_CHROMIUM=PATH in the environment.
Without any they are skipped; with HYBRID_CHROMIUM=1 they fail instead.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import doubles
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from serving import listening, service, tiny

from hybrid.serve.guard import Policy
from trm.inference.refiner import Refiner

DECLARED = os.environ.get("HYBRID_CHROMIUM", "")
CHROMIUM = (
    DECLARED if DECLARED not in ("", "1") else shutil.which("chromium") or shutil.which("chromium-browser")
)

pytestmark = pytest.mark.skipif(not DECLARED and CHROMIUM is None, reason="no Chromium on the PATH")
ARC = {
    "train": [{"input": [[1, 0]], "output": [[0, 1]]}],
    "test": [{"input": [[2, 0]]}, {"input": [[3, 3, 0]]}],
}
SHIPPED = Path(__file__).parents[3] / "ckpt" / "trm.pt"
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None, "HYBRID_CHROMIUM declares a Chromium, and there is none"
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    small = Refiner.from_pretrained(SHIPPED, "cpu", tasks=["sudoku4", "sudoku6"])
    with listening(service(more={"tiny": tiny(), "small": small})) as found:
        yield found


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True) as context:
        made, wrong = context.new_page(), list[str]()
        made.set_default_timeout(15_000)
        made.on("pageerror", lambda error: wrong.append(str(error)))
        # A refused request is logged as an error too, and is none of the page's.
        made.on(
            "console", lambda m: m.type == "error" and "status of 4" not in m.text and wrong.append(m.text)
        )
        outside = list[str]()
        made.on("request", lambda request: outside.append(request.url))
        yield made
        assert not wrong
        assert all(url.startswith((address, "blob:", "data:")) for url in outside)


def link(address: str, task: str, text: str) -> str:
    return f"{address}/#task={task}&puzzle={quote(text)}"


def digits(page: Page, label: str) -> str:
    """The symbols of a board, as it shows them."""
    return "".join(page.get_by_role("grid", name=label).get_by_role("gridcell").all_inner_texts())


def test_a_sudoku_is_watched_by_mouse_and_saved(page: Page, address: str, tmp_path: Path) -> None:
    page.goto(link(address, "sudoku", doubles.SUDOKU))
    expect(page.locator("#samples option:checked")).to_have_text("From the link")
    page.get_by_role("button", name="Solve").click()
    expect(page.locator("#verdict")).to_contain_text("Verified")
    assert digits(page, "Cold start") == doubles.SOLUTION
    assert digits(page, "From the draft") == doubles.SOLUTION
    slider = page.get_by_role("slider")
    slider.fill("0")
    expect(page.locator("#position")).to_have_text("draft")
    draft = page.get_by_role("grid", name="From the draft")
    assert draft.locator(".broken").count() > 0
    expect(draft.get_by_role("gridcell", name="row 1, column 8: 2, breaks a rule")).to_have_count(1)
    assert page.get_by_role("grid", name="Cold start").locator(".broken").count() == 0
    page.get_by_role("button", name="One step forth").click()
    expect(page.locator("#position")).to_have_text("step 1 of 2")
    page.get_by_role("button", name="Play").click()
    expect(page.locator("#position")).to_have_text("step 2 of 2")
    saved = {}
    for name in ("JSON", "PNG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Save {name}").click()
        saved[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[name])
    assert json.loads(saved["JSON"].read_text())["record"]["answer"] == doubles.SOLUTION
    assert saved["PNG"].read_bytes().startswith(b"\x89PNG")
    page.get_by_role("button", name="Copy link").click()
    assert quote(doubles.SUDOKU) in page.url


def test_each_cycle_of_a_step_can_be_looked_at(page: Page, address: str) -> None:
    page.goto(link(address, "sudoku", doubles.SUDOKU))
    page.get_by_label("Proposer").select_option("none")
    page.get_by_label("Refiner").select_option("tiny")
    page.get_by_role("spinbutton", name="Steps").fill("2")
    page.get_by_role("spinbutton", name="Restarts").fill("0")
    page.get_by_role("button", name="Solve").click()
    expect(page.locator("#verdict")).to_contain_text("Not solved")
    expect(page.locator("#position")).to_have_text("step 2 of 2")
    page.get_by_label("Each cycle").check()
    expect(page.locator("#position")).to_have_text("step 2, cycle 2 of 2")
    page.get_by_role("button", name="One step back").click()
    expect(page.locator(".caption")).to_contain_text("step 2, cycle 1")
    page.get_by_label("Each cycle").uncheck()
    expect(page.locator("#position")).to_have_text("step 2 of 2")


def test_a_sudoku_is_written_and_solved_by_keyboard(page: Page, address: str) -> None:
    page.goto(link(address, "sudoku", "." * 81))
    board = page.get_by_role("grid", name="The puzzle")
    board.get_by_role("gridcell").first.focus()
    for row in range(9):
        for column in range(9):
            if (symbol := doubles.SUDOKU[9 * row + column]) != ".":
                page.keyboard.press(symbol)
            page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Home")
    assert board.get_by_role("gridcell", name="row 9, column 9: 9").count() == 1
    page.locator("#solve").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#live")).to_contain_text("Verified")
    assert digits(page, "Cold start") == doubles.SOLUTION
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#position")).to_have_text("step 1 of 2")


def test_a_sudoku_of_another_size_is_chosen_written_solved_and_shared(
    page: Page, address: str, tmp_path: Path
) -> None:
    page.goto(address)
    page.get_by_label("Proposer").select_option("none")
    size = page.get_by_label("Size")
    assert size.locator("option").all_inner_texts() == ["9x9"]
    page.get_by_label("Refiner").select_option("small")
    assert size.locator("option").all_inner_texts() == ["4x4", "6x6", "9x9"]
    board = page.get_by_role("grid", name="The puzzle")
    cells = board.get_by_role("gridcell")
    size.select_option("6x6")
    expect(cells).to_have_count(36)
    assert page.get_by_label("Choose").locator("option").count() == 3
    assert board.locator("[data-box-ends~=right]").count() == 6  # boxes of 2 rows and 3 columns
    assert board.locator("[data-box-ends~=bottom]").count() == 12
    size.select_option("4x4")
    page.get_by_label("Choose").select_option("4 clues")
    assert digits(page, "The puzzle") == "42" + "1" + "4"
    page.get_by_role("button", name="Clear").click()
    for place, symbol in ((0, "4"), (5, "2")):
        cells.nth(place).click()
        page.get_by_role("button", name=f"Write {symbol}").click()
    expect(page.locator("#live")).to_have_text("row 2, column 2: 2")
    cells.nth(8).click()
    for key in ("5", "1", "ArrowRight", "ArrowRight", "4"):  # no 4x4 holds a 5
        page.keyboard.press(key)
    expect(page.get_by_label("The puzzle as text")).to_have_value("4...\n.2..\n1.4.\n....")
    page.locator("#solve").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_contain_text("Verified")
    assert digits(page, "Cold start") == "4123" + "3214" + "1342" + "2431"
    expect(page.get_by_role("gridcell", name="row 1, column 1: 4, given")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    download.value.save_as(tmp_path / "picture.png")
    page.get_by_role("button", name="Copy link").click()
    page.reload()
    expect(cells).to_have_count(16)
    assert digits(page, "The puzzle") == "4214"
    expect(size).to_have_value("sudoku4")
    expect(page.get_by_role("radio", name="Sudoku")).to_be_checked()


def test_a_maze_is_drawn_and_solved(page: Page, address: str) -> None:
    page.goto(link(address, "maze", "S  \n   \n  G"))
    page.get_by_role("button", name="Wall").click()
    page.get_by_role("gridcell", name="row 2, column 2: free").click()
    page.get_by_role("gridcell", name="row 2, column 2: wall").wait_for()
    page.get_by_role("button", name="Solve").click()
    expect(page.locator("#verdict")).to_contain_text("Verified")
    assert page.get_by_role("grid", name="Cold start").locator(".path").count() == 3
    page.get_by_role("slider").fill("0")
    expect(page.locator(".lane", has_text="From the draft").locator(".caption")).to_contain_text("the draft")


def test_candidates_of_arc_are_shown_with_who_names_them(page: Page, address: str) -> None:
    page.goto(link(address, "arc", json.dumps(ARC)))
    expect(page.get_by_role("grid", name="Demonstration 1, output")).to_have_count(1)
    page.get_by_role("button", name="Solve").click()
    expect(page.locator("#verdict")).to_contain_text("no rule can decide")
    guess = page.locator(".candidate").first
    expect(guess).to_contain_text("likely")
    expect(guess).to_contain_text("Proposer's views75 %")
    expect(guess.get_by_role("gridcell").first).to_have_attribute("aria-label", "row 1, column 1: black")
    page.get_by_role("radio", name="Test 2").check()
    expect(page.locator("#votes")).to_contain_text("Candidates for test 2")
    assert page.get_by_role("grid", name="Cold start").get_by_role("gridcell").count() == 3


def test_violations_are_named_and_point_at_their_cells(page: Page, address: str) -> None:
    page.goto(link(address, "sudoku", doubles.SUDOKU))
    page.get_by_label("Refiner").select_option("none")
    page.get_by_role("button", name="Solve").click()
    expect(page.locator("#verdict")).to_contain_text("Not solved")
    expect(page.locator("#verdict")).to_contain_text("may have no solution")
    page.get_by_role("button", name="column 8 has 2 twice").focus()
    assert page.locator(".lane .pointed").count() == 2


PASTE = """text => {
  const data = new DataTransfer();
  data.setData("text", text);
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
}"""


def test_files_and_text_are_read(page: Page, address: str, tmp_path: Path) -> None:
    file = tmp_path / "puzzles.csv"
    file.write_text(f'question,answer\n"{doubles.MAZE}",\n{doubles.SUDOKU},\nno puzzle,\n')
    page.goto(address)
    page.locator("#tasks label").first.wait_for()
    page.locator("#file").set_input_files(file)
    options = page.locator("#samples optgroup").first.locator("option")
    expect(options).to_have_text(["puzzles.csv, puzzle 1", "puzzles.csv, puzzle 2", re.compile("no puz")])
    expect(page.locator("#hint")).to_contain_text("2 of 3 puzzles")
    cells = page.get_by_role("grid", name="The puzzle").get_by_role("gridcell")
    expect(cells).to_have_count(9)
    page.get_by_label("Choose").select_option(index=1)
    expect(cells).to_have_count(81)
    expect(page.get_by_role("radio", name="Sudoku")).to_be_checked()
    page.evaluate(PASTE, "⬛⬛⬛⬛\n⬛🟩⬜⬛\n⬛⬜🟥⬛\n⬛⬛⬛⬛")
    expect(cells).to_have_count(16)
    expect(options).to_have_text(["From the text"])
    page.evaluate(PASTE, "no puzzle")
    expect(page.get_by_role("alert")).to_contain_text("the text: ")
    expect(cells).to_have_count(0)
    expect(page.locator("#solve")).to_be_disabled()
    page.get_by_label("The puzzle as text").fill(doubles.SUDOKU)
    expect(cells).to_have_count(81)
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator("#solve")).to_be_enabled()
    page.goto(link(address, "", doubles.MAZE))
    expect(cells).to_have_count(9)


def test_a_bad_puzzle_is_said(page: Page, address: str) -> None:
    page.goto(link(address, "maze", "S#\n G"))
    page.get_by_role("button", name="Wall").click()
    page.get_by_role("gridcell", name="row 2, column 1: free").click()
    with page.expect_response("**/v1/solve") as response:
        page.get_by_role("button", name="Solve").click()
    assert response.value.status == 422
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")


def test_it_fits_phones_and_desktops(page: Page, address: str) -> None:
    page.goto(link(address, "sudoku", doubles.SUDOKU))
    page.get_by_role("button", name="Solve").click()
    expect(page.locator("#verdict")).to_contain_text("Verified")
    shades = set()
    for width, scheme in ((360, "light"), (768, "dark"), (1600, "light")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        shades.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(shades) == 2


def test_whoever_presses_solve_sees_the_verdict(page: Page, address: str) -> None:
    for width, height in ((1280, 720), (360, 740)):
        page.set_viewport_size({"width": width, "height": height})
        page.goto("about:blank")
        page.goto(link(address, "sudoku", doubles.SUDOKU))
        expect(page.locator("#solve")).to_be_enabled()
        expect(page.locator("#solve")).to_be_in_viewport()
        page.get_by_role("spinbutton", name="Seed").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#verdict")).to_contain_text("Verified")
        expect(page.locator("#verdict")).to_be_in_viewport()


def test_the_grid_of_an_unsolved_puzzle_is_the_answer_that_the_verdict_is_about(
    page: Page, address: str
) -> None:
    page.goto(link(address, "sudoku", doubles.SUDOKU))
    page.get_by_label("Proposer").select_option("none")
    page.get_by_label("Refiner").select_option("tiny")
    page.get_by_role("spinbutton", name="Steps").fill("1")
    page.get_by_role("spinbutton", name="Restarts").fill("3")
    page.get_by_role("button", name="Solve").click()
    expect(page.locator("#verdict")).to_contain_text("Not solved")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save JSON").click()
    record = json.loads(download.value.path().read_text())["record"]
    assert digits(page, "Cold start") == record["answer"].replace(".", "")


def test_a_token_is_asked_for(browser: Browser) -> None:
    with listening(service(policy=Policy(token=TOKEN))) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        page.get_by_label("This server asks for its token").fill(TOKEN)
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#tasks label").first).to_be_visible()
        page.get_by_role("button", name="Solve").click()
        expect(page.locator("#verdict")).to_be_visible(timeout=15_000)
