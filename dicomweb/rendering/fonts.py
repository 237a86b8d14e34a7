"""Where the fonts are that words on pictures are written with: in packages, then on the machine."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Final

from PIL import ImageFont

# Packages that carry a font (both SIL OFL 1.1): Latin, Greek and Cyrillic; Chinese, Japanese and Korean.
_PACKED: Final = (
    ("fontpkg_noto_sans", "files/NotoSans[wdth,wght].ttf"),
    ("noto_cjk_sans_jp_regular", "NotoSansCJKjp-Regular.otf"),
)
# What many machines have beside them: Hebrew, Arabic, Armenian, Georgian; Thai; the scripts of India.
_INSTALLED: Final = (
    "DejaVuSans.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "FreeSans.ttf",
)


@functools.cache
def font_files() -> tuple[str, ...]:
    """Where the fonts are that this machine has, in the order in which they are asked for a letter."""
    found = []
    for package, name in _PACKED:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None and (path := Path(spec.origin).parent / name).is_file():
            found.append(str(path))
    for name in _INSTALLED:
        try:
            found.append(str(ImageFont.truetype(name, 16).path))
        except OSError:
            continue
    return tuple(found)
