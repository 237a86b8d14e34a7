"""Encapsulated documents: PDF pages as pictures and text, drawn where they can do no harm; others as they are."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from dicomweb.apart import Limits, run_apart
from storage.archive import Archive
from storage.errors import CannotDecode
from tests.support import made, web
from tests.test_wado import ONE, get, store


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive) as client:
        yield client


def pdf(pages: int = 2, box: str = "0 0 200 100", extra: str = "") -> bytes:
    """A document each of whose pages has a black square in its lower left quarter, and its number as text."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{4 + 2 * page} 0 R" for page in range(pages))
    objects.append(f"<< /Type /Pages /Count {pages} /Kids [{kids}] >>")
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for page in range(pages):
        content = f"0 0 50 50 re f BT /F1 12 Tf 120 60 Td (Page {page + 1}) Tj ET {extra}"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Resources << /Font << /F1 3 0 R >> >> /Contents {5 + 2 * page} 0 R >>"
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
    body, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n{one}\nendobj\n".encode()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    tail = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return body + tail.encode()


def document(content: bytes, kind: str = "application/pdf") -> bytes:
    attributes: dict[str, Any] = {"EncapsulatedDocument": content + b"\0" * (len(content) % 2), "MIMETypeOfEncapsulatedDocument": kind}
    return made.instance(pixels=False, sop_class=made.PDF, EncapsulatedDocumentLength=len(content), **attributes)


def pixels(body: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(body)).convert("L"))


def test_pages_as_pictures(client: TestClient) -> None:
    store(client, document(pdf()))
    first = pixels(get(client, f"{ONE}/rendered?viewport=400,400", "image/png").content)
    assert first.shape == (200, 400)
    assert (first[110:190, 10:90].max(), first[10:90, 10:90].min()) == (0, 255)
    second = get(client, f"{ONE}/frames/2/rendered?viewport=400,400", "image/png")
    assert not np.array_equal(pixels(second.content), first)
    assert get(client, f"{ONE}/frames/3/rendered", "image/png").status_code == 404
    assert len(web.parts(get(client, f"{ONE}/frames/1,2/rendered", "multipart/related; type=image/png"))) == 2
    assert pixels(get(client, f"{ONE}/thumbnail", "image/png").content).shape == (64, 128)


def test_part_of_a_page_flipped(client: TestClient) -> None:
    store(client, document(pdf()))
    shown = pixels(get(client, f"{ONE}/rendered?viewport=300,150,0,0,-305,152", "image/png").content)
    assert (shown[100:140, 240:290].max(), shown[100:140, 10:60].min()) == (0, 255)


@pytest.mark.parametrize("small", [True, False])
def test_media_types(client: TestClient, small: bool) -> None:
    """Small documents are in the metadata, larger ones bulk data."""
    content = pdf(2 if small else 40)
    store(client, document(content))
    answer = get(client, f"{ONE}/rendered")
    assert (answer.headers["content-type"], answer.content) == ("application/pdf", content)
    assert get(client, f"{ONE}/rendered", Range="bytes=0-3").content == b"%PDF"
    text = get(client, f"{ONE}/rendered", "text/plain").text
    assert text.split("\n\f\n")[:2] == ["Page 1", "Page 2"]
    assert get(client, f"{ONE}/rendered", "image/*").headers["content-type"] == "image/jpeg"


HOSTILE = {
    "empty": b"",
    "no PDF": b"GIF89a" * 100,
    "cut off": pdf()[:60],
    "no pages": pdf(0),
    "pages in a circle": pdf().replace(b"/Kids [4 0 R 6 0 R]", b"/Kids [2 0 R 2 0 R]"),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_what_is_no_document_is_one_clear_answer(client: TestClient, name: str) -> None:
    store(client, document(HOSTILE[name]))
    answer = get(client, f"{ONE}/rendered", "image/png")
    assert answer.status_code == 406
    assert "it can be had as application/pdf" in answer.text.lower()
    assert get(client, f"{ONE}/thumbnail", "image/png").status_code == 200
    assert get(client, f"{ONE}/rendered").content == HOSTILE[name]


@pytest.mark.parametrize("box", ["0 0 1000000 1000000", "0 0 1 1000000", "0 0 0.0001 0.0001"])
def test_absurd_pages_are_drawn_small(client: TestClient, box: str) -> None:
    store(client, document(pdf(1, box)))
    answer = get(client, f"{ONE}/rendered?viewport=100,100", "image/png")
    assert answer.status_code == 200
    assert max(pixels(answer.content).shape) <= 100
    assert get(client, f"{ONE}/rendered", "image/jpeg").status_code == 200


def test_a_document_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    slow = pdf(1, extra="0 0 200 100 re f " * 3_000_000)
    with pytest.raises(CannotDecode, match="takes longer"):
        run_apart("pdf page", [slow], {"page": 1, "width": 8000, "height": 8000}, tmp_path, Limits(seconds=0.4))


def test_a_document_that_takes_too_much_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(CannotDecode):
        run_apart("pdf page", [pdf(1)], {"page": 1, "width": 6000, "height": 6000}, tmp_path, Limits(memory=90 << 20))
    with pytest.raises(CannotDecode, match="crashed"):
        run_apart("pdf page", [pdf(1)], {"page": 1}, tmp_path, Limits(result=1000))
    assert list(tmp_path.iterdir()) == []


def test_no_server_process_has_the_library_in_it(tmp_path: Path) -> None:
    """Said by a fresh interpreter: another test may have loaded every module of ours into this one."""
    page = """
import sys
from pathlib import Path
import pacs.compose
from dicomweb.apart import run_apart
drawn = run_apart("pdf page", [sys.stdin.buffer.read()], {"page": 1}, Path(sys.argv[1]))
print(len(drawn.content) > 0, "pypdfium2" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", page, str(tmp_path)], input=pdf(1), capture_output=True, timeout=60)
    assert ran.stdout.split() == [b"True", b"False"], ran.stderr


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("model/stl", "model/stl"), ("model/obj", "model/obj"), ("model/mtl", "model/mtl"), ("text/XML", "text/xml"), ("text/html", "")],
)
def test_other_documents_are_given_as_they_are(client: TestClient, kind: str, shown: str) -> None:
    store(client, document(b"<html xmlns='http://www.w3.org/1999/xhtml'><script>alert(1)</script></html>" * 40, kind))
    answer = get(client, f"{ONE}/rendered")
    assert (answer.status_code, answer.headers["content-type"]) == ((200, shown) if shown else (406, "application/json"))
    assert ("sandbox" in answer.headers.get("content-security-policy", "")) == (shown == "text/xml")
    assert get(client, f"{ONE}/rendered", "image/png").status_code == 406
    assert get(client, f"{ONE}/thumbnail", "image/png").status_code == 200
