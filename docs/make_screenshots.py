"""Pictures of `hybrid serve`, of what really runs: docs/serve.png, and docs/serve.gif with a frame for each step.

    hybrid serve --llm smollm2
    python docs/make_screenshots.py --url http://127.0.0.1:8000 --sample "Extreme, rating 88"
    python docs/make_screenshots.py --url http://127.0.0.1:8000 --views FOLDER

With --views it writes the page with each of several puzzles, light, dark and on a phone, for people to look at.
Needs Chromium (or --chromium PATH), playwright and Pillow.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

DOCS = Path(__file__).parent
WIDTH, HEIGHT = 1280, 960
FRAME_MS, LAST_FRAME_MS = 1200, 3000
SOLVE_MS = 300_000
VIEWS = {"light": (1280, 960), "dark": (1280, 960), "phone": (390, 844)}
PUZZLES = {
    "sudoku": ("Sudoku", "Extreme, rating 88"),
    "maze": ("Maze", "30x30, like Maze-Hard"),
    "arc": ("ARC", "Evaluation 66e6c45b"),
}


def solve(page: Page, url: str, sample: str, task: str) -> None:
    page.goto(url)
    page.locator("#tasks label", has_text=task).click()
    page.get_by_label("Choose").select_option(label=sample)
    page.get_by_role("button", name="Solve").click()
    expect(page.locator("#facts")).not_to_be_empty(timeout=SOLVE_MS)
    page.mouse.move(0, 0)


def frames(page: Page) -> list[Image.Image]:
    """The solution's panel at the draft and after every step."""
    slider, found = page.locator("#slider"), []
    for position in range(int(slider.get_attribute("max") or 0) + 1):
        slider.fill(str(position))
        page.wait_for_timeout(300)  # colours fade
        picture = Image.open(io.BytesIO(page.locator("#watch").screenshot())).convert("RGB")
        found.append(picture.quantize(128, dither=Image.Dither.NONE))
    return found


def whole(page: Page, path: Path) -> None:
    """A picture of the whole page in a window of its height: what sticks to the window's edge is at its place."""
    size = page.viewport_size
    assert size is not None
    page.set_viewport_size({**size, "height": page.evaluate("document.documentElement.scrollHeight")})
    page.wait_for_timeout(300)  # colours fade
    page.screenshot(path=path, full_page=True)
    page.set_viewport_size(size)


def write_views(page: Page, url: str, out: Path) -> None:
    """The page with each of the puzzles, solved, as it looks on several screens."""
    for name, (task, sample) in PUZZLES.items():
        solve(page, url, sample, task)
        for view, (width, height) in VIEWS.items():
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme="dark" if view == "dark" else "light")
            whole(page, out / f"{name}-{view}.png")
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--task", default="Sudoku", help="as the page names it")
    parser.add_argument("--sample", default="Extreme, rating 88", help="as the page names it")
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--views", type=Path, help="a folder for views of the page, in place of the pictures")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        if options.views:
            write_views(page, options.url, options.views)
            return
        solve(page, options.url, options.sample, options.task)
        pictures = frames(page)
        durations = [FRAME_MS] * (len(pictures) - 1) + [LAST_FRAME_MS]
        pictures[0].save(
            options.out / "serve.gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0
        )
        page.locator("#slider").fill("1")
        whole(page, options.out / "serve.png")
        browser.close()


if __name__ == "__main__":
    main()
