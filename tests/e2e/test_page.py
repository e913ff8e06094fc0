"""The demo's page, in a real browser, on the deployed stack."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from demo.answers import QUESTIONS, answer
from tests.support.browser import Visitor, scroll_up_slowly
from tests.support.deployed import Deployed

pytest_plugins = ["tests.support.browser_fixtures"]
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

QUESTION = "What is a tailrace, anyway?"

assert QUESTION in QUESTIONS


async def ask(page: Page, question: str = QUESTION) -> None:
    await page.get_by_label("Your question").fill(question)
    await page.get_by_label("Your question").press("Enter")


async def text(page: Page) -> str:
    """Return the answer as it stands, paragraphs as they were written."""
    paragraphs: list[str] = await page.locator("#answer > p").evaluate_all(
        "paragraphs => paragraphs.map(p => p.textContent)"
    )
    return "\n\n".join(paragraphs)


async def shows(page: Page, least: int) -> None:
    """Wait until so many characters of the answer are there."""
    await page.wait_for_function(
        "least => document.getElementById('answer').textContent.length >= least",
        arg=least,
    )


async def has_come(page: Page, via: str) -> None:
    """Wait until a piece has come by that way."""
    await expect(page.locator(f"#count-{via}")).not_to_have_text("0")


async def is_complete(page: Page, question: str = QUESTION) -> None:
    """Wait for the end; what is shown must be the text, to the letter."""
    await expect(page.locator("#outcome")).to_contain_text("Complete", timeout=60_000)
    assert await text(page) == answer(question)


async def test_an_answer_streams_in_and_survives_a_reload_in_its_middle(
    visitor: Visitor, fast_demo_url: str, output: Path
) -> None:
    page = await visitor.open(fast_demo_url)
    await ask(page)
    await shows(page, 200)
    before = await text(page)
    assert answer(QUESTION).startswith(before)
    await has_come(page, "live")
    await page.screenshot(path=output / "page-streaming.png")

    await page.reload()
    await shows(page, len(before) + 1)
    await has_come(page, "replay")
    assert answer(QUESTION).startswith(await text(page))
    await page.screenshot(path=output / "page-reloaded.png")

    await is_complete(page)
    await has_come(page, "live")
    await page.screenshot(path=output / "page-complete.png")
    said = await page.locator("#outcome-text").text_content()
    await page.reload()
    await is_complete(page)
    assert await page.locator("#outcome-text").text_content() == said
    assert said is not None
    assert " in 0.0 s" not in said


async def test_a_second_tab_shows_all_of_it_and_what_either_tab_asks_next(
    visitor: Visitor, fast_demo_url: str
) -> None:
    first = await visitor.open(fast_demo_url)
    await ask(first)
    await shows(first, 200)
    async with visitor.context.expect_page() as opened:
        await first.get_by_role("link", name="Open a second tab").click()
    second = await opened.value
    await expect(second.get_by_role("heading", level=1)).to_have_text(QUESTION)
    await is_complete(second)
    await is_complete(first)

    await ask(second, "And who are you?")
    await expect(first.get_by_role("heading", level=1)).to_have_text("And who are you?")
    await is_complete(first, "And who are you?")


async def test_stop_ends_the_answer_in_every_tab(
    visitor: Visitor, demo_url: str
) -> None:
    first = await visitor.open(demo_url)
    second = await visitor.open(demo_url)
    await ask(first)
    await shows(second, 100)
    await second.get_by_role("button", name="Stop").click()
    for page in (first, second):
        await expect(page.locator("#outcome")).to_contain_text("Stopped")
        assert answer(QUESTION).startswith(await text(page))
    assert await text(first) == await text(second)
    await expect(first.locator("#eyebrow")).to_have_text("Stopped")
    # The job was stopped with it: a reload finds no more than was seen.
    stopped = await text(first)
    await first.reload()
    await expect(first.locator("#outcome")).to_contain_text("Stopped")
    assert await text(first) == stopped


async def test_stop_reaches_a_question_that_is_still_on_its_way(
    visitor: Visitor, demo_url: str
) -> None:
    page = await visitor.open(demo_url)
    stopped = asyncio.Event()

    async def hold(route: Route) -> None:
        await stopped.wait()
        await route.continue_()

    await page.route("**/api/ask", hold)
    await ask(page)
    await page.get_by_role("button", name="Stop").click()
    stopped.set()
    await expect(page.locator("#outcome")).to_contain_text("Stopped")


async def test_nothing_is_missing_after_a_cut_an_outage_and_lost_frames(
    visitor: Visitor, demo_url: str
) -> None:
    page = await visitor.open(demo_url)
    await ask(page, "How does Tailrace work?")
    await shows(page, 50)
    await page.get_by_role("button", name="Cut connection").click()
    await shows(page, 400)
    await page.get_by_role("button", name="Drop 5 frames").click()
    await has_come(page, "repair")
    await page.get_by_role("button", name="Go offline").click()
    await expect(page.locator("#status")).to_have_text("Offline")
    seen = await text(page)
    await page.get_by_role("button", name="Come back").click()
    await shows(page, len(seen) + 1)
    await has_come(page, "replay")
    await is_complete(page, "How does Tailrace work?")


async def test_nothing_can_be_asked_before_the_page_listens(
    visitor: Visitor, demo_url: str
) -> None:
    page = await visitor.context.new_page()
    held: asyncio.Queue[Route] = asyncio.Queue()
    await page.route("**/api/session", held.put)
    await page.goto(demo_url)
    route = await held.get()
    await expect(page.get_by_label("Your question")).to_be_disabled()
    await expect(page.get_by_role("button", name="Ask")).to_be_disabled()
    await route.continue_()
    await ask(page)
    await shows(page, 50)


async def test_a_token_that_expires_while_the_page_sleeps_is_replaced(
    visitor: Visitor, demo_url: str
) -> None:
    page = await visitor.open(demo_url)
    await ask(page)
    await shows(page, 50)
    await page.get_by_role("button", name="Expire token").click()
    journal = page.locator("#journal")
    await expect(journal).to_contain_text("Refused: unauthorized")
    await is_complete(page)


async def test_a_killed_job_is_told_of_and_delivered_again_goes_on_behind_it(
    visitor: Visitor, demo_url: str, deployed: Deployed, output: Path
) -> None:
    page = await visitor.open(demo_url)
    await ask(page)
    await shows(page, 100)
    await page.get_by_role("button", name="Kill the job").click()
    await expect(page.locator("#outcome")).to_contain_text("was killed")
    # It dies when somebody looks after its lease: here a backend, which asks for the
    # tail. A page alone looks every 25 s.
    stream = await page.locator("#fact-stream").inner_text()
    while (await asyncio.to_thread(deployed.ask, "tail", stream))["active"]:
        await asyncio.sleep(0.2)
    await expect(page.locator("#outcome")).to_contain_text("presumed dead")
    assert answer(QUESTION).startswith(await text(page))
    await page.screenshot(path=output / "page-producer-lost.png")

    await page.get_by_role("button", name="Deliver the job again").click()
    await is_complete(page)


async def test_it_is_whole_on_a_phone_and_in_the_dark(
    visitor: Visitor, fast_demo_url: str, output: Path
) -> None:
    page = await visitor.open(fast_demo_url)
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    await ask(page)
    await shows(page, 100)
    # Whoever turns it on or off goes on reading at the cursor. By the keyboard: what
    # is below an answer that grows moves away from under a pointer.
    smooth = page.get_by_label("even out the bursts")
    await smooth.press("Space")
    await expect(smooth).to_be_checked()
    await shows(page, 300)
    await smooth.press("Space")
    await expect(smooth).not_to_be_checked()
    await is_complete(page)
    wide = await page.evaluate(
        "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    )
    assert not wide, "the page scrolls sideways"
    for name in ("Ask", "Cut connection", "Kill the job"):
        button = page.get_by_role("button", name=name, exact=False).first
        box = await button.bounding_box()
        assert box and box["height"] >= 32 and box["x"] + box["width"] <= 390
    await page.screenshot(path=output / "page-phone-dark.png", full_page=True)


async def test_text_of_a_model_is_text_whatever_it_looks_like(
    visitor: Visitor, fast_demo_url: str
) -> None:
    page = await visitor.open(fast_demo_url)
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script> & so on"
    await ask(page, hostile)
    await shows(page, 1)
    # The question comes back through the log, as any text of a job does.
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text(hostile)
    assert await page.locator("h1 *, #answer img, #answer script").count() == 0
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#outcome")).to_contain_text("Stopped")


@pytest.mark.parametrize("width", [390, 1280])
async def test_who_scrolls_up_slowly_is_left_there_while_the_answer_grows(
    visitor: Visitor, demo_url: str, width: int
) -> None:
    page = await visitor.open(demo_url)
    await page.set_viewport_size({"width": width, "height": 480})
    await ask(page, "How does Tailrace work?")
    top = "document.getElementById('{}').getBoundingClientRect().top"
    place = top.format("question")
    below = f"{top.format('end')} - {top.format('composer')}"
    await shows(page, 900)
    assert await page.evaluate(place) < 0, "it was not followed so far"
    await scroll_up_slowly(page)
    before = await page.evaluate(place)
    length = len(await text(page))
    await shows(page, length + 300)
    assert await page.evaluate(place) == before
    await page.mouse.wheel(0, 10_000)
    await page.wait_for_function(f"() => {below} < 120")
    await shows(page, length + 600)
    assert await page.evaluate(below) < 120, "it is not followed again"
