"""The demo's backend keeps to its page: other sites and other visitors get nothing."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest_plugins = ["tests.support.browser_fixtures"]

VISITOR = "visitor=" + "a" * 24


class Browser:
    """Sends what a browser would, or what one that means ill would."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.host = urlsplit(url).netloc

    def send(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, bytes]:
        own = {"Host": self.host, "Origin": self.url, "Cookie": VISITOR}
        connection = http.client.HTTPConnection(self.host)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                own | {name.capitalize(): value for name, value in headers.items()},
            )
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> int:
        return self.send("POST", path, body, **headers)[0]


@pytest.fixture
def a_browser(demo_url: str) -> Browser:
    return Browser(demo_url)


def test_a_visitor_gets_a_token_for_the_own_stream_only(a_browser: Browser) -> None:
    status, body = a_browser.send("POST", "/api/session", {})
    assert status == 200
    assert json.loads(body)["stream"] == "demo:" + "a" * 24
    assert a_browser.post("/api/token", {}) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"host": "elsewhere.example"},
    ],
)
def test_another_site_cannot_use_it(
    a_browser: Browser, headers: dict[str, str]
) -> None:
    for path in ("/api/token", "/api/ask", "/api/kill"):
        assert a_browser.post(path, {"question": "?", "run": "r"}, **headers) == 403


def test_a_name_that_resolves_to_this_machine_is_not_served(a_browser: Browser) -> None:
    assert a_browser.send("GET", "/", host="rebound.example")[0] == 403


def test_without_the_cookie_there_is_nobody_to_serve(a_browser: Browser) -> None:
    for cookie in ("", "visitor=../../x", "visitor=" + "a" * 23):
        assert a_browser.post("/api/token", {}, cookie=cookie) == 401


@pytest.mark.parametrize("other", ['prefs={"dark":true}', "a@b=3", "="])
def test_cookies_of_other_servers_on_this_machine_are_passed_over(
    a_browser: Browser, other: str
) -> None:
    """A cookie knows no port."""
    for cookie in (f"{other}; {VISITOR}", f"{VISITOR}; {other}"):
        assert a_browser.post("/api/token", {}, cookie=cookie) == 200
    assert a_browser.post("/api/token", {}, cookie=f"other{VISITOR}") == 401


def test_one_visitor_cannot_kill_or_redeliver_the_job_of_another(
    a_browser: Browser,
) -> None:
    _, body = a_browser.send("POST", "/api/ask", {"question": "What is a tailrace?"})
    run = {"run": json.loads(body)["run"]}
    other = {"cookie": "visitor=" + "b" * 24}
    status, answer = a_browser.send("POST", "/api/kill", run, **other)
    assert (status, json.loads(answer)) == (200, {"killed": False})
    status, answer = a_browser.send("POST", "/api/redeliver", run, **other)
    assert (status, json.loads(answer)) == (200, {"started": False})
    status, answer = a_browser.send("POST", "/api/kill", run)
    assert (status, json.loads(answer)) == (200, {"killed": True})


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/ask", {"question": ""}, 400),
        ("/api/ask", {"question": "x" * 501}, 400),
        ("/api/ask", {"question": 1}, 400),
        ("/api/ask", ["question"], 400),
        ("/api/ask", {"question": "x" * 20_000}, 413),
        ("/api/token", {"seconds": 10_000}, 400),
        ("/api/token", {"seconds": "1"}, 400),
        ("/api/kill", {}, 400),
        ("/api/elsewhere", {}, 404),
    ],
)
def test_a_bad_request_is_refused(
    a_browser: Browser, path: str, body: Any, status: int
) -> None:
    assert a_browser.post(path, body) == status


@pytest.mark.parametrize(
    "path",
    [
        "/page/../server.py",
        "/page/%2e%2e/server.py",
        "/tailrace/../package.json",
        "/page//etc/passwd",
        "/server.py",
        "/page/",
    ],
)
def test_nothing_but_the_page_and_the_client_is_served(
    a_browser: Browser, path: str
) -> None:
    assert a_browser.send("GET", path)[0] == 404


def test_the_page_may_load_nothing_from_elsewhere(a_browser: Browser) -> None:
    connection = http.client.HTTPConnection(a_browser.host)
    connection.request("GET", "/", headers={"Host": a_browser.host})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    # The client asks the socket's server whether it is there.
    assert "ws://127.0.0.1:* http://127.0.0.1:*;" in policy
    assert "HttpOnly" in answer.headers["Set-Cookie"]
