"""Pictures of a report, the server page and the documentation, by headless Chromium.

python scripts/screenshots.py report.html --out report.png --width 1100 --height 1500
python scripts/screenshots.py http://127.0.0.1:8000 --out serve.png --width 390 --dark
python scripts/screenshots.py --docs     the pictures of the documentation, from embedded data

Chromium makes no window narrower than 500 pixels, so that a narrower page stands in a frame of its
width; the review page may stand in none.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.request import Request, urlopen

from started_server import started

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
IMAGES = Path(__file__).parents[1] / "docs" / "images"
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
FRAME = """<!doctype html><meta name="color-scheme" content="light dark">
<style>body {{ margin: 0 }} iframe {{ border: 0; width: {width}px; height: {height}px }}</style>
<iframe src="{url}"></iframe>"""
NARROWEST = 500  # pixels
LIGHT, DARK = "1", "0"  # Blink's words
REVIEW = "The room was spotless and the breakfast a feast, but the street never sleeps."
POOL = (
    "The museum is free, the queue is not: two hours in the rain for three rooms.",
    "I expected little and got less, although the waiter was a delight.",
    "A sequel that nobody asked for and that everybody will watch twice.",
    "It is a chair. One can sit on it.",
)
# Chromium's picture of a page that is scrolled to a section is empty.
ONLY_RESULTS = "<style>body * :not(#results, #results *, :has(#results)) { display: none }</style>"
ASK = """<script>
  document.getElementById("text").value = %s;
  document.querySelector("button").click();
</script>"""


def shoot(  # noqa: PLR0913 (what a picture is made of)
    page: str,
    out: Path,
    width: int = 1100,
    height: int = 1500,
    dark: bool = False,
    scale: float = 1.0,
) -> None:
    """Write a picture of a page, `width` × `height` from its top.

    Args:
        page: a file or a URL, with `#section` if the picture starts there.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"No browser: expected one of {', '.join(BROWSERS)} on the PATH.")
    url = page if "://" in page else Path(page.split("#")[0]).resolve().as_uri()
    if "#" in page and "://" not in page:
        url += f"#{page.split('#')[1]}"
    with tempfile.TemporaryDirectory() as home:
        frame = Path(home, "frame.html")
        frame.write_text(FRAME.format(width=width, height=height, url=html.escape(url)), "utf-8")
        command = [
            *(browser, *QUIET, f"--user-data-dir={home}/profile", "--allow-file-access-from-files"),
            *(
                f"--window-size={max(width, NARROWEST)},{height}",
                f"--force-device-scale-factor={scale}",
            ),
            f"--blink-settings=preferredColorScheme={DARK if dark else LIGHT}",
            *("--virtual-time-budget=3000", f"--screenshot={home}/page.png"),
            frame.as_uri() if width < NARROWEST else url,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        _crop(Path(home, "page.png"), out, round(width * scale))


def _crop(picture: Path, out: Path, width: int) -> None:
    from PIL import Image

    with Image.open(picture) as image:
        image.crop((0, 0, min(width, image.width), image.height)).save(out, optimize=True)


def _stack(pictures: list[Path], out: Path) -> None:
    from PIL import Image

    images = [Image.open(picture) for picture in pictures]
    size = (images[0].width, sum(image.height for image in images))
    whole = Image.new("RGB", size)
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    whole.quantize(128).save(out, optimize=True)


@contextmanager
def page_with_text(url: str, text: str) -> Iterator[str]:
    """The address of a page of the server that asks about a text when it is opened.

    Chromium takes its picture before a slow answer comes. Answers are kept, so the second picture
    shows them.
    """
    kept: dict[tuple[str, bytes], tuple[bytes, str]] = {}

    class Asking(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            if (self.path, body) not in kept:
                kind = {"Content-Type": "application/json"}
                with urlopen(Request(url + self.path, body or None, kind)) as answer:
                    kept[self.path, body] = answer.read(), answer.headers["Content-Type"]
            content, kind = kept[self.path, body]
            with suppress(BrokenPipeError):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()
                more = ASK % json.dumps(text) if "html" in kind else ""
                self.wfile.write(content + more.encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Asking) as proxy:
        Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}"
        proxy.shutdown()


def for_the_docs() -> None:
    """`report.png`, `serve.png` and `review.png`, of the first command's run."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "nlp_transfer.train", "+task=sentiment", "run_dir=run"]
        subprocess.run(command, cwd=home, env=environment, check=True)
        parts = [Path(home, "top.png"), Path(home, "results.png")]
        shoot(f"{home}/run/report.html", parts[0], 1000, 557)
        results = Path(home, "results.html")
        report = Path(home, "run", "report.html").read_text("utf-8")
        results.write_text(report + ONLY_RESULTS, "utf-8")
        shoot(str(results), parts[1], 1000, 805)
        _stack(parts, IMAGES / "report.png")
        serving = started("serve", "run", cwd=home, env=environment)
        with serving as server, page_with_text(server.address, REVIEW) as page:
            for _ in range(2):
                shoot(page, IMAGES / "serve.png", 900, 520)
        _shoot_review(Path(home), environment)


def _shoot_review(home: Path, environment: dict[str, str]) -> None:
    rows = "".join(f'{i},"{text}"\n' for i, text in enumerate(POOL, start=1))
    Path(home, "pool.csv").write_text(f"id,text\n{rows}", "utf-8")
    program = [sys.executable, "-m", "nlp_transfer.cli"]
    suggest = [*program, "suggest", "run", "--file", "pool.csv"]
    subprocess.run(suggest, cwd=home, env=environment, check=True)
    with started("review", "next.csv", "--run", "run", cwd=str(home), env=environment) as server:
        shoot(server.address, IMAGES / "review.png", 900, 420)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="?", help="a file or a URL")
    parser.add_argument("--docs", action="store_true", help="the pictures of the documentation")
    parser.add_argument("--out", type=Path, default=Path("page.png"))
    parser.add_argument("--width", type=int, default=1100)
    parser.add_argument("--height", type=int, default=1500)
    parser.add_argument("--scale", type=float, default=1.0, help="device pixels for each pixel")
    parser.add_argument("--dark", action="store_true", help="for readers who prefer dark pages")
    arguments = parser.parse_args()
    if arguments.docs:
        for_the_docs()
    elif arguments.page:
        size = (arguments.width, arguments.height)
        shoot(arguments.page, arguments.out, *size, arguments.dark, arguments.scale)
    else:
        parser.error("name a page, or --docs")


if __name__ == "__main__":
    main()
