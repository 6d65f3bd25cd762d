"""A browser that opens pages from files. Debian's package chromium has it: `apt-get install chromium`."""

import os
import shutil
from contextlib import contextmanager

import pytest

# No network, no first run, no profile but one in a folder of the test.
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]
CHROMIUM = shutil.which(os.environ.get("RECOT_BROWSER", "chromium"))

needs_browser = pytest.mark.skipif(CHROMIUM is None and "RECOT_BROWSER" not in os.environ,
                                   reason="Chromium is not here; apt-get install chromium brings it")


class Opened:
    """A page of a site, and what went wrong in it.

    Attributes:
        page: of Playwright. complaints: errors and warnings on the console, and exceptions.
        requests: addresses that are no files and no data; each is stopped.
    """

    def __init__(self, page):
        self.page, self.complaints, self.requests = page, [], []
        page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.context.route("**/*", self.judge)

    def judge(self, route):
        """Let a request pass that reads a file; note and stop every other."""
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()


@contextmanager
def browser(profile, width=1400, scheme="light", scripts=True):
    """A page in a window of this width, with a profile in a new folder."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "RECOT_BROWSER says that there is a browser, and there is none"
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=CHROMIUM, headless=True, args=FLAGS, viewport={"width": width, "height": 900},
            color_scheme=scheme, java_script_enabled=scripts)
        try:
            yield Opened(context.pages[0] if context.pages else context.new_page())
        finally:
            context.close()
