"""Pictures of a report, the server page and the documentation, by headless Chromium.

python scripts/screenshots.py report.html --out report.png --width 1100 --height 1500
python scripts/screenshots.py http://127.0.0.1:8000 --out serve.png --width 390 --dark
python scripts/screenshots.py --docs     the pictures of the documentation, from embedded data

Chromium makes no window narrower than 500 pixels, so that the page stands in a frame of its width.
"""

from __future__ import annotations

import argparse
import html
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
IMAGES = Path(__file__).parents[1] / "docs" / "images"
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
FRAME = """<!doctype html><meta name="color-scheme" content="light dark">
<style>body {{ margin: 0 }} iframe {{ border: 0; width: {width}px; height: {height}px }}</style>
<iframe src="{url}"></iframe>"""
LIGHT, DARK = "1", "0"  # Blink's words


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
            *(f"--window-size={max(width, 500)},{height}", f"--force-device-scale-factor={scale}"),
            f"--blink-settings=preferredColorScheme={DARK if dark else LIGHT}",
            *("--virtual-time-budget=3000", f"--screenshot={home}/page.png", frame.as_uri()),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        _crop(Path(home, "page.png"), out, round(width * scale))


def _crop(picture: Path, out: Path, width: int) -> None:
    from PIL import Image

    with Image.open(picture) as image:
        image.crop((0, 0, min(width, image.width), image.height)).save(out, optimize=True)


def for_the_docs() -> None:
    """`report.png`, `report-errors.png` and `serve.png`, of the first command's run."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "nlp_transfer.train", "+task=sentiment", "run_dir=run"]
        subprocess.run(command, cwd=home, env=environment, check=True)
        shoot(f"{home}/run/report.html", IMAGES / "report.png", 1000, 1150)
        serve = [sys.executable, "-m", "nlp_transfer.cli", "serve", "run", "--port", "0"]
        server = subprocess.Popen(serve, cwd=home, env=environment, stderr=subprocess.PIPE)
        assert server.stderr is not None
        url = server.stderr.readline().decode().split()[-1]
        shoot(url, IMAGES / "serve.png", 900, 620)
        server.terminate()
        server.wait()


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
