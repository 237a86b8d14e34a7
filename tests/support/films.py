"""What tests of moving pictures need."""

from __future__ import annotations

import pytest

from dicomweb.videos import can_film

needs_av = pytest.mark.skipif(not can_film(), reason="PyAV is not installed (pip install lightbox-pacs[video])")
