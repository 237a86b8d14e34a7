"""A person at OHIF, as verbs: open a study, look at the picture, scroll, drag, measure, upload."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
from PIL import Image
from playwright.sync_api import BrowserContext, Locator, Page

Picture = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]
Button = Literal["left", "middle", "right"]

# Software WebGL on two shared cores: what takes 2 s alone may take 40 when everything else runs beside it.
PATIENCE = 90.0
# OHIF's notice lies over the lower part of the picture until it is confirmed; a test that is not about it confirms first.
CONFIRMED = (
    "window.localStorage?.setItem('investigationalUseDialog',"
    " JSON.stringify({expiryDate: new Date(Date.now() + 86400000)}))"
)


class Complaints:
    """Everything that went wrong in the page without stopping it: each would be a user's mystery."""

    def __init__(self, page: Page, origin: str) -> None:
        self._origin = origin
        self.found: list[str] = []
        page.on("pageerror", lambda error: self.found.append(f"exception: {error}"))
        page.on("response", lambda answer: self._judge(answer.status, answer.url))
        page.on("request", lambda request: self._belongs(request.url))
        page.on("console", lambda message: self._listen(message.text))

    def _judge(self, status: int, url: str) -> None:
        if status >= 400:
            self.found.append(f"{status}: {url}")

    def _listen(self, text: str) -> None:
        if "Content Security Policy" in text or "Refused to" in text:
            self.found.append(text)

    def _belongs(self, url: str) -> None:
        if url.startswith("http") and not url.startswith(self._origin):
            self.found.append(f"left its origin: {url}")


class Ohif:
    """One tab with OHIF in it."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        context.add_init_script(CONFIRMED)
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.complaints = Complaints(self.page, origin)
        self.origin = origin

    # The study list

    def open_list(self) -> None:
        """The study list, loaded."""
        self.page.goto(f"{self.origin}/")
        self.by("study-list-results").locator("tr").first.wait_for()

    def listed(self) -> set[str]:
        """The Study Instance UIDs on the list's page."""
        rows = self.page.locator("[data-cy^='studyRow-']").evaluate_all("rows => rows.map(row => row.dataset.cy)")
        return {str(row).removeprefix("studyRow-") for row in rows}

    def filter_by_name(self, text: str) -> None:
        """Type into the list's patient name box."""
        self.by("input-patientName").fill(text)

    def upload(self, *files: Path) -> None:
        """Give files to the upload dialog, and wait until it has sent them all."""
        self.page.get_by_text("Upload", exact=True).click()
        self.page.locator("input[type=file]").first.set_input_files(list(files))
        self.page.get_by_text(re.compile(rf"^{len(files)} files? completed")).wait_for()

    # A study

    def open_study(self, study: str) -> None:
        """A study in the viewer, its first picture drawn."""
        self.page.goto(f"{self.origin}/viewer?StudyInstanceUIDs={study}")
        self.canvas.wait_for()
        self.until(lambda: detail(self.picture()) > 2.0, "the picture stays blank")

    def click_first_study_of(self, study: str) -> None:
        """As a person: click the study's row, then the button of the basic viewer."""
        self.by(f"studyRow-{study}").click()
        self.page.locator(f"[data-cy='mode-viewer-{study}'], [data-cy='mode-basic-{study}']").first.click()
        self.canvas.wait_for()
        self.until(lambda: detail(self.picture()) > 2.0, "the picture stays blank")

    @property
    def canvas(self) -> Locator:
        """Where the first viewport's picture is."""
        return self.page.locator("canvas.cornerstone-canvas").first

    def by(self, name: str) -> Locator:
        """A control by the name that OHIF gives it for tests."""
        return self.page.locator(f"[data-cy='{name}']").first

    def picture(self) -> Picture:
        """What is on the screen in the middle of the viewport (rows, columns, RGB), clear of the texts in its corners."""
        box = self.canvas.bounding_box()
        assert box is not None, "the viewport is gone"
        middle = {
            "x": box["x"] + box["width"] * 0.2,
            "y": box["y"] + box["height"] * 0.2,
            "width": box["width"] * 0.6,
            "height": box["height"] * 0.6,
        }
        return _decoded(self.page.screenshot(clip=middle))  # type: ignore[arg-type]

    @property
    def canvas_size(self) -> tuple[float, float]:
        """Width and height of the viewport."""
        box = self.canvas.bounding_box()
        assert box is not None, "the viewport is gone"
        return box["width"], box["height"]

    @property
    def place(self) -> int:
        """Which image of the series is shown, from 1, as the viewport's corner says: `(21/54)`."""
        return int(re.findall(r"\((\d+)/\d+\)", self.page.locator("body").inner_text())[0])

    def until(self, happened: Callable[[], bool], otherwise: str) -> None:
        """Wait for something to be seen; fail with `otherwise` when patience is over."""
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, f"{otherwise}; the page complained: {self.complaints.found}"
            self.page.wait_for_timeout(250)

    def settled(self) -> Picture:
        """The picture once it has stopped changing (progressive loading, thumbnails, late redraws)."""
        seen = self.picture()
        for _ in range(40):
            self.page.wait_for_timeout(400)
            now = self.picture()
            if difference(seen, now) == 0.0:
                return now
            seen = now
        return seen

    def changes(self, action: Callable[[], None], what: str) -> Picture:
        """Do something, and wait until the picture is another one; returns it settled."""
        before = self.settled()
        action()
        self.until(lambda: difference(before, self.picture()) > 0.1, f"{what} does not change the picture")
        return self.settled()

    def scroll(self, notches: int = 1) -> None:
        """Turn the wheel over the picture."""
        self._over_the_middle()
        for _ in range(notches):
            self.page.mouse.wheel(0, 100)
            self.page.wait_for_timeout(150)

    def drag(self, across: float, down: float, button: Button = "left") -> None:
        """Press in the middle of the picture, move by so many pixels, release."""
        x, y = self._over_the_middle()
        self.page.mouse.down(button=button)
        self.page.mouse.move(x + across / 2, y + down / 2, steps=4)
        self.page.mouse.move(x + across, y + down, steps=4)
        self.page.mouse.up(button=button)

    def rotate_right(self) -> None:
        """Rotate by the toolbar's menu."""
        self.by("MoreTools-split-button-secondary").click()
        self.by("rotate-right").click()

    def choose_window_preset(self, name: str) -> None:
        """Choose from the presets of the window level menu."""
        self.by("windowLevelMenu-btn").click()
        self.page.get_by_text("Modality Window Presets").click()
        self.page.get_by_text(name, exact=True).click()

    def measure_length(self) -> str:
        """Draw a length with the toolbar's tool; returns the text beside it."""
        self.by("Length-btn").click()
        self.drag(150, 40)
        label = self.page.locator("svg.svg-layer text").first
        label.wait_for()
        return label.text_content() or ""

    def _over_the_middle(self) -> tuple[float, float]:
        box = self.canvas.bounding_box()
        assert box is not None, "the viewport is gone"
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        return x, y


def detail(picture: Picture) -> float:
    """The standard deviation of the grey values: 0 for a blank picture."""
    return float(picture.mean(axis=2).std())


def colourfulness(picture: Picture) -> float:
    """The share of pixels (in percent) whose channels differ clearly."""
    wide = picture.astype(np.int16)
    return float(((wide.max(axis=2) - wide.min(axis=2)) > 40).mean() * 100)


def difference(one: Picture, other: Picture) -> float:
    """The mean absolute difference of two pictures, in grey values; another size is another picture."""
    if one.shape != other.shape:
        return 255.0
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())


def _decoded(png: bytes) -> Picture:
    pixels: Picture = np.ascontiguousarray(imagecodecs.png_decode(png)[..., :3])
    return pixels


def unlike(server: bytes, shown: Picture, canvas: tuple[float, float]) -> float:
    """How far the middle of a square picture as the server draws it is from that on the screen, in grey levels in the mean.

    `shown` is `Ohif.picture`, of an image that fills the viewport. Both are reduced, so that how each enlarges does not matter.
    """
    whole = Image.open(io.BytesIO(server)).convert("L")
    width, height = canvas
    side = min(width, height)
    left, top = (0.5 - 0.3 * width / side) * whole.width, (0.5 - 0.3 * height / side) * whole.height
    part = whole.crop((round(left), round(top), round(whole.width - left), round(whole.height - top)))
    small = [np.asarray(one.resize((48, 48), Image.Resampling.BOX), np.float64) for one in (part, Image.fromarray(shown).convert("L"))]
    return float(np.abs(small[0] - small[1]).mean())
