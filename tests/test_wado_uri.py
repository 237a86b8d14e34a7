"""WADO-URI (PS3.18 9) through the routes: parameters, defaults, and what each wrong one is told."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pydicom
import pytest
from PIL import Image
from starlette.testclient import TestClient

from storage.archive import Archive
from tests.support import made, web

UIDS = {"studyUID": "1.2.3", "seriesUID": "1.2.3.4", "objectUID": "1.2.3.4.1"}
ELE, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
SIDE = 40


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive) as client:
        yield client


def wado(client: TestClient, accept: str = "*/*", **parameters: str) -> httpx2.Response:
    return client.get("http://testserver/wado", params={"requestType": "WADO", **UIDS, **parameters}, headers={"Accept": accept})


def ramp(frames: int = 1) -> bytes:
    """Each pixel is its column, so that a part of the image can be told from another."""
    pixels = np.tile(np.arange(SIDE, dtype="<u2"), (frames, SIDE, 1))
    return made.instance(
        side=SIDE, frames=frames, PixelData=pixels.tobytes(), WindowCenter=SIDE / 2, WindowWidth=SIDE
    )


def store(client: TestClient, *instances: bytes) -> None:
    assert web.stow(client, instances).status_code == 200


def picture(answer: httpx2.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))




@pytest.mark.parametrize(
    ("instance", "parameters", "accept", "kind"),
    [
        # 9.1.2.2.1: the default of a single frame is a picture, of everything else a file.
        (ramp(), {}, "*/*", "image/jpeg"),
        (ramp(2), {}, "*/*", f"application/dicom; transfer-syntax={ELE}"),
        (made.instance(pixels=False), {}, "*/*", f"application/dicom; transfer-syntax={ELE}"),
        (ramp(), {"contentType": "image/png"}, "*/*", "image/png"),
        (ramp(), {"contentType": "image/jp2,image/png;q=0.5,image/jpeg;q=0.7"}, "*/*", "image/jpeg"),
        (ramp(), {"contentType": "image/*"}, "*/*", "image/jpeg"),
        (ramp(), {}, "image/png", "image/png"),
        (ramp(), {}, "text/html, image/png;q=0.8", "image/png"),
        # What Accept says does not overrule contentType: OHIF asks for DICOM with an Accept that is meant for frames.
        (
            ramp(),
            {"contentType": "application/dicom", "transferSyntax": "*"},
            "multipart/related; type=application/octet-stream",
            f"application/dicom; transfer-syntax={ELE}",
        ),
        (made.rle(side=SIDE), {"contentType": "application/dicom"}, "*/*", f"application/dicom; transfer-syntax={ELE}"),
        (
            made.rle(side=SIDE),
            {"contentType": "application/dicom", "transferSyntax": "*"},
            "*/*",
            f"application/dicom; transfer-syntax={RLE}",
        ),
        (
            made.rle(side=SIDE),
            {"contentType": "application/dicom", "transferSyntax": RLE},
            "*/*",
            f"application/dicom; transfer-syntax={RLE}",
        ),
        (ramp(), {"charset": "utf-8", "somethingElse": "1"}, "*/*", "image/jpeg"),
    ],
)
def test_what_is_answered(
    client: TestClient, instance: bytes, parameters: dict[str, str], accept: str, kind: str
) -> None:
    store(client, instance)
    answer = wado(client, accept, **parameters)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind), answer.text
    if kind.startswith("application/dicom"):
        assert pydicom.dcmread(io.BytesIO(answer.content)).SOPInstanceUID == UIDS["objectUID"]
    else:
        assert picture(answer).size == (SIDE, SIDE)


@pytest.mark.parametrize(
    ("parameters", "status", "names"),
    [
        ({"requestType": "wado"}, 400, "requestType"),
        ({"studyUID": ""}, 400, "studyUID"),
        ({"objectUID": ""}, 400, "objectUID"),
        ({"objectUID": "1.2.3.4.99"}, 404, "1.2.3.4.99"),
        ({"seriesUID": "1.2.3.5"}, 404, "1.2.3.5"),
        ({"contentType": "video/mpeg"}, 406, "image/jpeg"),
        ({"contentType": "no type"}, 400, "media type"),
        ({"windowCenter": "1"}, 400, "windowWidth"),
        ({"windowCenter": "x", "windowWidth": "1"}, 400, "window"),
        ({"rows": "0"}, 400, "rows"),
        ({"columns": "many"}, 400, "columns"),
        ({"rows": "99999"}, 400, "viewport"),
        ({"region": "0,0,1"}, 400, "region"),
        ({"region": "0.5,0,0.5,1"}, 400, "region"),
        ({"region": "0,0,1.1,1"}, 400, "region"),
        ({"region": "0,0,nan,1"}, 400, "region"),
        ({"imageQuality": "101"}, 400, "quality"),
        ({"annotation": "everything"}, 400, "annotation"),
        ({"frameNumber": "0"}, 400, "frameNumber"),
        ({"frameNumber": "2"}, 404, "frame 2"),
        ({"transferSyntax": RLE}, 400, "transferSyntax"),
        *(({"contentType": "application/dicom", "transferSyntax": odd}, 400, "no UID") for odd in ("1.2.3,*/*", '1.2";q=0', "1.2;q=0", "RLE")),
        ({"contentType": "application/dicom", "rows": "5"}, 400, "rows"),
        ({"contentType": "application/dicom", "transferSyntax": "1.2.840.10008.1.2.4.53"}, 406, ELE),
        ({"anonymize": "yes"}, 400, "application/dicom"),
        ({"anonymize": "yes", "contentType": "image/png"}, 400, "anonymize"),
        ({"anonymize": "no"}, 400, "anonymize"),
        ({"presentationUID": "1.2"}, 400, "presentationSeriesUID"),
        ({"presentationUID": "1.2", "presentationSeriesUID": "1.3"}, 404, "1.2"),
        ({"presentationUID": "1.2", "presentationSeriesUID": "1.3", "region": "0,0,1,1"}, 400, "region"),
        ({"presentationUID": "1.2.3.4.1", "presentationSeriesUID": "1.2.3.4"}, 400, "no presentation state"),
    ],
)
def test_what_is_refused(client: TestClient, parameters: dict[str, str], status: int, names: str) -> None:
    store(client, ramp())
    answer = wado(client, **parameters)
    assert answer.status_code == status, answer.text
    found = answer.json()
    assert (found["status"], names in found["error"], bool(found["todo"])) == (status, True, True), found
    assert found["reference"] == "PS3.18 9"


def test_a_parameter_given_twice(client: TestClient) -> None:
    store(client, ramp())
    query = "&".join(f"{name}={value}" for name, value in UIDS.items())
    answer = client.get(f"http://testserver/wado?requestType=WADO&{query}&rows=1&rows=2")
    assert (answer.status_code, "rows" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        ({"rows": "10", "columns": "10"}, (10, 10)),
        ({"rows": "10"}, (10, 10)),
        ({"columns": "80"}, (80, 80)),
        ({"rows": "10", "columns": "30"}, (10, 10)),
        ({"region": "0.5,0,1,0.25"}, (20, 10)),
        ({"region": "0.5,0,1,0.25", "columns": "40", "rows": "40"}, (40, 20)),
    ],
)
def test_the_size_of_a_picture(client: TestClient, parameters: dict[str, str], size: tuple[int, int]) -> None:
    store(client, ramp())
    assert picture(wado(client, contentType="image/png", **parameters)).size == size


def test_a_region_is_the_part_that_was_named(client: TestClient) -> None:
    store(client, ramp())
    whole = np.asarray(picture(wado(client, contentType="image/png")))
    part = np.asarray(picture(wado(client, contentType="image/png", region="0.25,0.5,0.75,1")))
    assert np.array_equal(part, whole[20:40, 10:30])


def test_the_window_and_the_frame(client: TestClient) -> None:
    store(client, made.instance(side=SIDE, frames=3))
    bright = picture(wado(client, contentType="image/png", frameNumber="3", windowCenter="150", windowWidth="10"))
    dark = picture(wado(client, contentType="image/png", frameNumber="1", windowCenter="150", windowWidth="10"))
    assert (np.asarray(bright).min(), np.asarray(dark).max()) == (255, 0)


def test_documents_and_videos_as_they_are(client: TestClient) -> None:
    pdf = b"%PDF-1.7 report " * 100
    store(
        client,
        made.instance(
            pixels=False, sop_class=made.PDF, EncapsulatedDocument=pdf, MIMETypeOfEncapsulatedDocument="application/pdf"
        ),
    )
    assert wado(client, contentType="application/pdf").content.rstrip() == pdf.rstrip()
    assert wado(client).headers["content-type"].startswith("application/dicom")
    assert wado(client, contentType="image/jpeg").status_code == 406


def test_head_and_etag(client: TestClient) -> None:
    store(client, ramp())
    whole = wado(client)
    head = client.head("http://testserver/wado", params={"requestType": "WADO", **UIDS})
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole.content)))
    query = {"requestType": "WADO", **UIDS}
    again = client.get("http://testserver/wado", params=query, headers={"If-None-Match": whole.headers["etag"]})
    assert again.status_code == 304


# ---- de-identified (9.4.1.2, PS3.15 annex E)

ANONYMOUS = {"contentType": "application/dicom", "anonymize": "yes"}


def identified(number: int = 1, **attributes: Any) -> bytes:
    return made.instance(
        number, side=SIDE, PatientName="Wright^Orville", PatientID="OW1871", StudyDescription="of Orville", InstitutionName="Kitty Hawk", **attributes
    )


@pytest.mark.parametrize("syntax", [ELE, RLE, "1.2.840.10008.1.2.4.80"])
def test_without_names_and_under_other_uids(client: TestClient, syntax: str) -> None:
    """In any transfer syntax that it can be had in; the same each time, and other instances of the patient fit to it."""
    store(client, identified(), identified(2))
    answer = wado(client, **ANONYMOUS, transferSyntax=syntax)
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"application/dicom; transfer-syntax={syntax}")
    found = pydicom.dcmread(io.BytesIO(answer.content))
    assert not any(word in answer.content.lower() for word in (b"wright", b"orville", b"ow1871", b"kitty"))
    assert found.file_meta.TransferSyntaxUID == syntax
    assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID
    assert (found.PatientIdentityRemoved, found.DeidentificationMethodCodeSequence[0].CodeValue) == ("YES", "113100")
    uids = found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID
    assert not set(uids) & set(UIDS.values())
    plain = pydicom.dcmread(io.BytesIO(wado(client, contentType="application/dicom").content))
    assert np.array_equal(found.pixel_array, plain.pixel_array)

    assert wado(client, **ANONYMOUS, transferSyntax=syntax).content == answer.content
    other = pydicom.dcmread(io.BytesIO(wado(client, **ANONYMOUS, objectUID="1.2.3.4.2").content))
    assert (other.StudyInstanceUID, other.SeriesInstanceUID, other.PatientID) == (*uids[:2], found.PatientID)
    assert other.SOPInstanceUID != found.SOPInstanceUID


def test_what_is_stored_stays_what_it_is(client: TestClient) -> None:
    store(client, identified())
    assert wado(client, **ANONYMOUS).status_code == 200
    assert pydicom.dcmread(io.BytesIO(wado(client, contentType="application/dicom").content)).PatientID == "OW1871"
    assert len(client.get("http://testserver/dicom-web/studies").json()) == 1


def test_asked_again_with_its_etag_it_is_not_sent(client: TestClient) -> None:
    store(client, identified())
    etag = wado(client, **ANONYMOUS).headers["etag"]
    query = {"requestType": "WADO", **UIDS, **ANONYMOUS}
    assert client.get("http://testserver/wado", params=query, headers={"If-None-Match": etag}).status_code == 304
    head = client.head("http://testserver/wado", params=query)
    assert (head.status_code, head.content, int(head.headers["content-length"]) > 1000) == (200, b"", True)
    # A part of what is made anew each time is not sent: the whole is.
    assert client.get("http://testserver/wado", params=query, headers={"Range": "bytes=0-9"}).status_code == 200


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned in"),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.7"}, "text in their pixels"),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.104.1"}, "document"),
    ],
)
def test_what_cannot_be_deidentified_is_not_sent(client: TestClient, attributes: dict[str, Any], reason: str) -> None:
    store(client, identified(**attributes))
    answer = wado(client, **ANONYMOUS)
    assert (answer.status_code, reason in answer.json()["error"]) == (406, True), answer.text
