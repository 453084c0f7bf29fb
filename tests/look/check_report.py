"""Open a report in headless Chromium: screenshots at two widths; console messages and outside requests are failures.

Usage: python tests/look/check_report.py REPORT.html [FOLDER]

Screenshots go to FOLDER (default: the report's folder). Outside requests are found in the browser's own network log;
no name resolves in this browser, so that none of them leaves the machine. Exit code 1 on any of them, on any console
message and on a page wider than its window; 2 when there is no report or no browser.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTHS_PX = (1280, 420)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_S = 120
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
)


def open_page(browser: str, page: Path, *flags: str) -> tuple[str, list[str]]:
    """Standard output of one browser run, and what went wrong: console messages and outside requests of the page."""
    with tempfile.TemporaryDirectory() as profile:
        log = Path(profile) / "net.json"
        settings = (f"--user-data-dir={profile}/profile", f"--log-net-log={log}")
        command = [browser, *FLAGS, *settings, *flags, page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{browser} ended with code {done.returncode}:\n{done.stderr[-2000:]}")
        outside = outside_requests(log)
    return done.stdout, outside + [line for line in done.stderr.splitlines() if re.search(r"\bCONSOLE\b", line)]


def outside_requests(log: Path) -> list[str]:
    """Requests that the page itself started; those of the browser have no origin as their initiator."""
    started = (event.get("params", {}) for event in json.loads(log.read_text(encoding="utf-8"))["events"])
    return [
        f"the page asked for {request['url']}"
        for request in started
        if request.get("initiator", "not an origin") != "not an origin"
        and not request.get("url", "file:").startswith(("file:", "data:", "blob:"))
    ]


def measure_height(browser: str, page: Path, width_px: int) -> int:
    """Height of the whole page at one width, asked from a copy with a line of script in its title."""
    script = (
        "<script>addEventListener('load', () => { const page = document.documentElement;"
        " document.title = page.scrollHeight + ' x ' + page.scrollWidth })</script></body>"
    )
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.html"
        copy.write_text(page.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
        dom, _ = open_page(browser, copy, f"--window-size={width_px},1000", "--dump-dom")
    found = re.search(r"<title>(\d+) x (\d+)</title>", dom)
    if found is None:
        raise RuntimeError(f"{page} did not load in {browser}")
    if int(found[2]) > max(width_px, 500):
        raise RuntimeError(f"{page} is {found[2]} px wide in a window of {width_px} px: something sticks out")
    return int(found[1])


def main(arguments: list[str]) -> int:
    """Check one report; see the module's text."""
    page = Path(arguments[0]) if arguments else Path()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not page.is_file() or browser is None:
        print(__doc__ if not page.is_file() else f"none of {', '.join(BROWSERS)} is on PATH", file=sys.stderr)
        return 2
    folder = Path(arguments[1]) if len(arguments) > 1 else page.parent
    folder.mkdir(parents=True, exist_ok=True)
    messages: list[str] = []
    for width in WIDTHS_PX:
        height = measure_height(browser, page, width)
        picture = folder / f"{page.stem}_{width}px.png"
        picture.unlink(missing_ok=True)
        size = f"--window-size={width},{height}"
        _, heard = open_page(browser, page, size, "--hide-scrollbars", f"--screenshot={picture.resolve()}")
        messages += heard
        if not picture.is_file():
            messages.append(f"no screenshot at {width} px")
        print(f"{picture} ({width} x {height} px)")
    for message in messages:
        print(f"error: {message}", file=sys.stderr)
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
