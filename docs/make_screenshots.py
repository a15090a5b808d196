"""Pictures of `hybrid serve`, of what really runs: docs/serve.png, and docs/serve.gif with a frame for each step.

    hybrid serve --llm smollm2
    python docs/make_screenshots.py --url http://127.0.0.1:8000 --sample "Sudoku-Extreme, rating 88"

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
        found.append(Image.open(io.BytesIO(page.locator("#watch").screenshot())).convert("P", colors=128))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--task", default="Sudoku", help="as the page names it")
    parser.add_argument("--sample", default="Sudoku-Extreme, rating 88", help="as the page names it")
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        solve(page, options.url, options.sample, options.task)
        pictures = frames(page)
        durations = [FRAME_MS] * (len(pictures) - 1) + [LAST_FRAME_MS]
        pictures[0].save(
            options.out / "serve.gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0
        )
        page.locator("#slider").fill("1")
        page.wait_for_timeout(300)
        page.screenshot(path=options.out / "serve.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
