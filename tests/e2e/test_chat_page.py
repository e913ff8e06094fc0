"""The chat of `examples/chat` as the demo serves it, in a real browser."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Page, expect

from tests.support.browser import Visitor, scroll_up_slowly

pytest_plugins = ["tests.support.browser_fixtures"]
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

WHOLE = "each word will be there once."


async def until(page: Page, expression: str) -> None:
    """Wait until it is so. The page allows no evaluated scripts, so that Playwright can
    wait for no function there."""
    async with asyncio.timeout(30):
        while not await page.evaluate(expression):
            await asyncio.sleep(0.05)


async def ask(page: Page, question: str) -> None:
    await page.get_by_label("Your question").fill(question)
    await page.get_by_role("button", name="Ask", exact=True).click()


@pytest.mark.parametrize("way", ["post", "socket", "sdk"])
async def test_a_reload_in_mid_answer_loses_nothing(
    visitor: Visitor, chat_url: str, way: str
) -> None:
    page = await visitor.open(f"{chat_url}#{way}/{way}")
    await ask(page, "What is the weather in Kiel?")
    await page.get_by_text("A streamed answer breaks").wait_for()
    await page.reload()
    await page.get_by_text("A streamed answer breaks").wait_for()
    await page.get_by_text(WHOLE).wait_for()
    (answer,) = await page.locator(".assistant").all_inner_texts()
    assert answer.count("It is 11 degrees in Kiel") == 1
    assert answer.count("A streamed answer breaks") == 1


@pytest.mark.parametrize("way", ["post", "sdk"])
async def test_two_tabs_show_each_others_turns_and_lose_none(
    visitor: Visitor, chat_url: str, way: str
) -> None:
    url = f"{chat_url}#{way}/tabs{way}"
    one, two = await visitor.open(url), await visitor.open(url)
    await ask(one, "What is the weather in Kiel?")
    # While it is being made: one answers as long as it can be stopped.
    await two.get_by_text("A streamed answer breaks").wait_for()
    await expect(two.get_by_role("button", name="Stop")).to_be_visible()
    for page in (one, two):
        await page.get_by_text(WHOLE).wait_for()
        await page.get_by_role("button", name="Ask", exact=True).wait_for()
    await ask(two, "What is the weather in Bonn?")
    for page in (one, two):
        await expect(page.get_by_text(WHOLE)).to_have_count(2)
        await page.get_by_role("button", name="Ask", exact=True).wait_for()
    for page in (one, two):
        await page.reload()
        await expect(page.locator("article")).to_have_count(4)
        texts = await page.locator("article").all_inner_texts()
        for text, place in zip(texts, ("Kiel", "Kiel", "Bonn", "Bonn"), strict=True):
            assert place in text
        assert await page.get_by_text("Cut short.").count() == 0


@pytest.mark.parametrize("way", ["post", "sdk"])
async def test_resuming_what_failed_forgets_no_error(
    visitor: Visitor, chat_url: str, way: str
) -> None:
    page = await visitor.open(f"{chat_url}#{way}/failed{way}")
    await ask(page, "Fail, please")
    error = page.get_by_role("alert").get_by_text("The model is too busy.")
    await error.wait_for()
    await page.get_by_role("button", name="Resume").click()
    await page.wait_for_timeout(2_000)
    await page.get_by_text("Cut short.").wait_for()
    await expect(error).to_be_visible()


async def test_who_scrolls_up_is_left_there_while_the_answer_grows(
    visitor: Visitor, chat_url: str
) -> None:
    page = await visitor.open(f"{chat_url}#post/scrolled")
    await page.set_viewport_size({"width": 390, "height": 500})
    await ask(page, "Tell me a long story")
    end = page.get_by_text(WHOLE)
    await end.first.wait_for()  # it was followed so far, or nothing could be scrolled
    height = "document.documentElement.scrollHeight"
    below = f"{height} - innerHeight - scrollY"
    await scroll_up_slowly(page)
    await until(page, f"{below} > 200")
    before = await page.evaluate("scrollY")
    assert before > 0
    grown = await page.evaluate(height) + 100
    await until(page, f"{height} > {grown}")
    assert await page.evaluate("scrollY") == before
    await page.mouse.wheel(0, 10_000)
    await until(page, f"{below} < 80")
    grown = await page.evaluate(height) + 100
    await until(page, f"{height} > {grown}")
    await until(page, f"{below} < 80")


async def test_a_stop_that_reaches_nobody_says_so(
    visitor: Visitor, chat_url: str
) -> None:
    visitor.network_fails = True
    await visitor.context.clock.install()
    page = await visitor.open(f"{chat_url}#post/unstopped")
    await ask(page, "Tell me a long story")
    await page.get_by_text("A streamed answer breaks").first.wait_for()
    await visitor.context.set_offline(True)
    await page.get_by_role("button", name="Cut the connection").click()
    await page.get_by_role("button", name="Stop").click()
    await page.get_by_role("button", name="Stopping").wait_for()
    await visitor.context.clock.fast_forward(31_000)
    await page.get_by_text("Not stopped").wait_for()
    await visitor.context.set_offline(False)
    await page.get_by_role("button", name="Stop", exact=True).click()
    await page.get_by_role("button", name="Ask", exact=True).wait_for()
    await expect(page.get_by_text("Not stopped")).to_have_count(0)
