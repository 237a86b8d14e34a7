"""Waveforms: the values that pydicom reads, where paper of 25 mm/s and 10 mm/mV has them."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from starlette.testclient import TestClient

from dicomweb.instance import Instance
from dicomweb.rendering.tracings import LEFT, parts, traced
from dicomweb.rendering.waveforms import Channel, Group, groups, values
from storage.archive import Archive
from storage.errors import CannotDecode
from storage.types import Scope
from tests.support import made, web
from tests.support.archive import ingest
from tests.support.corpus import corpus_file
from tests.test_reports import code
from tests.test_wado import ONE, get, store

ECG, AUDIO = "1.2.840.10008.5.1.4.1.1.9.1.2", "1.2.840.10008.5.1.4.1.1.9.4.1"
SVG = "{http://www.w3.org/2000/svg}"
REAL = ("ecg_12lead_scrubbed.dcm", "synthetic_audio_8bit.dcm", "synthetic_ecg_32bit.dcm", "synthetic_eeg.dcm", "wave_dfl")


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive) as client:
        yield client


def channel(name: str = "Lead II", units: str = "uV", sensitivity: float | None = 1.0, **attributes: Any) -> Dataset:
    one = Dataset()
    one.ChannelSourceSequence = code(name)
    if sensitivity is not None:
        one.ChannelSensitivity, one.ChannelSensitivityUnitsSequence = sensitivity, code(units, units, "UCUM")
        one.ChannelSensitivityCorrectionFactor, one.ChannelBaseline = 1, 0
    for keyword, value in attributes.items():
        setattr(one, keyword, value)
    return one


def waveform(samples: np.ndarray[Any, Any], *channels: Dataset, frequency: float = 500, sop_class: str = ECG, **attributes: Any) -> bytes:
    group = Dataset()
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = len(channels), len(samples)
    group.SamplingFrequency, group.MultiplexGroupLabel = frequency, "RHYTHM"
    group.ChannelDefinitionSequence = Sequence(channels)
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.add_new("WaveformData", "OW", samples.astype("<i2").tobytes())
    annotations = attributes.pop("annotations", ())
    for keyword, value in attributes.items():
        setattr(group, keyword, value)
    more: dict[str, Any] = {"WaveformAnnotationSequence": Sequence(annotations)} if annotations else {}
    return made.instance(pixels=False, sop_class=sop_class, Modality="ECG", WaveformSequence=Sequence([group]), **more)


def pulse() -> np.ndarray[Any, Any]:
    """1 mV from the first to the second second of twelve, at 500 Hz, in uV."""
    found = np.zeros((6000, 1))
    found[500:1000] = 1000
    return found


def lines(svg: bytes) -> list[np.ndarray[Any, Any]]:
    """The points of every line of more than two."""
    found = [one.attrib["points"].split() for one in ElementTree.fromstring(svg).iter(f"{SVG}polyline")]
    return [np.array([[float(part) for part in point.split(",")] for point in points]) for points in found if len(points) > 2]


def texts(svg: bytes) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", REAL)
def test_values_are_those_that_pydicom_reads(client: TestClient, archive: Archive, name: str) -> None:
    path = corpus_file(f"waveforms/{name}")
    uids = ingest(archive, path).uids
    layout = archive.index.layout(Scope(uids.study, uids.series, uids.instance))
    assert layout is not None
    instance, dataset = Instance(layout, archive.blobs), dcmread(path)
    for group in groups(instance.dataset):
        expected = dataset.waveform_array(group.index)
        for first, count in ((0, group.samples), (7, 100), (group.samples - 3, 50)):
            found = values(instance.dataset, group, first, count, lambda where, start, size: instance.little_endian_bulk(where)[start : start + size])
            assert np.allclose(found, expected[first : first + count], rtol=1e-6)


@pytest.mark.parametrize(("units", "sensitivity"), [("uV", 1.0), ("mV", 0.001), ("V", 1e-6), ("nV", 1000.0)])
def test_a_millivolt_is_ten_millimetres_and_a_second_twenty_five(client: TestClient, units: str, sensitivity: float) -> None:
    store(client, waveform(pulse(), channel(units=units, sensitivity=sensitivity)))
    (line,) = lines(get(client, f"{ONE}/rendered", "image/svg+xml").content)
    top, base = line[:, 1].min(), line[:, 1].max()
    assert base - top == pytest.approx(10, abs=0.02)
    high = line[line[:, 1] < base - 9, 0]
    assert (high.min(), high.max()) == pytest.approx((LEFT + 25, LEFT + 50), abs=0.3)


def test_correction_baseline_and_skew(client: TestClient) -> None:
    one = channel(ChannelSensitivityCorrectionFactor=2, ChannelBaseline=500, ChannelTimeSkew="0.2")
    store(client, waveform(pulse(), one))
    (line,) = lines(get(client, f"{ONE}/rendered", "image/svg+xml").content)
    assert line[:, 1].max() - line[:, 1].min() == pytest.approx(20, abs=0.02)
    assert line[0, 0] == pytest.approx(LEFT + 5, abs=0.01)


def test_ten_seconds_to_a_page(client: TestClient) -> None:
    store(client, waveform(pulse(), channel()))
    assert get(client, f"{ONE}/frames/2/rendered", "image/svg+xml").status_code == 200
    (line,) = lines(get(client, f"{ONE}/frames/2/rendered", "image/svg+xml").content)
    assert line[-1, 0] - LEFT == pytest.approx(50, abs=0.3)
    assert get(client, f"{ONE}/frames/3/rendered", "image/png").status_code == 404
    assert any("10 … 12 s of 12 s" in text for text in texts(get(client, f"{ONE}/frames/2/rendered", "image/svg+xml").content))


def test_padding_is_a_gap(client: TestClient) -> None:
    samples = pulse()
    samples[2000:2500] = -32768
    store(client, waveform(samples, channel(), WaveformPaddingValue=b"\0\x80"))
    before, after = lines(get(client, f"{ONE}/rendered", "image/svg+xml").content)
    assert before[-1, 0] == pytest.approx(LEFT + 100, abs=0.3)
    assert after[0, 0] == pytest.approx(LEFT + 125, abs=0.3)


def test_what_is_written(client: TestClient) -> None:
    said, measured, place = Dataset(), Dataset(), Dataset()
    said.UnformattedTextValue, said.ReferencedWaveformChannels = "SINUS <RHYTHM>", [1, 0]
    measured.ConceptNameCodeSequence, measured.NumericValue = code("QT Interval"), "368.0"
    measured.MeasurementUnitsCodeSequence, measured.ReferencedWaveformChannels = code("ms", "ms", "UCUM"), [1, 0]
    place.ConceptNameCodeSequence, place.ReferencedSamplePositions = code("P Onset"), 251
    place.ReferencedWaveformChannels, place.TemporalRangeType = [1, 1], "POINT"
    filters: dict[str, Any] = {"FilterLowFrequency": "0.05", "FilterHighFrequency": "150", "NotchFilterFrequency": "50"}
    leads = [channel("Lead I (Einthoven)", **filters), channel("Lead aVR, augmented voltage, right", **filters)]
    store(client, waveform(np.zeros((5000, 2)), *leads, annotations=[said, measured, place]))
    written = texts(get(client, f"{ONE}/rendered", "image/svg+xml").content)
    for text in ("RHYTHM", "SINUS <RHYTHM>", "QT Interval: 368 ms", "P Onset", "I", "aVR"):
        assert text in written
    assert any("25 mm/s  10 mm/mV" in text and "0.05 - 150 Hz, without 50 Hz" in text for text in written)


def test_what_is_no_ecg_has_a_scale_of_its_own(client: TestClient) -> None:
    samples = np.stack((np.linspace(-3, 80, 5000), np.linspace(0, 0, 5000)), axis=1)
    store(client, waveform(samples, channel("Aorta", "mm[Hg]"), channel("Still", "mm[Hg]"), sop_class=AUDIO))
    svg = get(client, f"{ONE}/rendered", "image/svg+xml").content
    assert "-3 … 80 mm[Hg]" in texts(svg)
    assert b"pattern" not in svg
    assert len(lines(svg)) == 2


@pytest.mark.parametrize(
    ("accept", "expected"),
    [("*/*", "image/png"), ("image/jpeg", "image/jpeg"), ("image/avif,image/webp,image/svg+xml,image/*,*/*;q=0.8", "image/svg+xml")],
)
def test_media_types(client: TestClient, accept: str, expected: str) -> None:
    store(client, waveform(pulse(), channel()))
    answer = get(client, f"{ONE}/rendered", accept)
    assert answer.headers["content-type"] == expected
    assert ("sandbox" in answer.headers.get("content-security-policy", "")) == (expected == "image/svg+xml")


def test_a_picture_in_the_size_that_is_asked(client: TestClient) -> None:
    store(client, waveform(pulse(), channel()))
    shown = Image.open(io.BytesIO(get(client, f"{ONE}/rendered?viewport=2000,2000", "image/png").content))
    assert shown.width == 2000
    dark = np.asarray(shown.convert("L")) < 90
    assert dark.sum() > 2000
    assert Image.open(io.BytesIO(get(client, f"{ONE}/thumbnail", "image/png").content)).size == (128, 128)


# ITU-T G.711: the codes of silence, of the loudest, and of a step between.
COMPANDED = [("MB", [0xFF, 0x7F, 0x80, 0x00], [0, 0, 32124, -32124]), ("AB", [0xD5, 0x55, 0xAA, 0x2A], [8, -8, 32256, -32256])]


@pytest.mark.parametrize(("interpretation", "codes", "expected"), COMPANDED)
def test_companded_sound(interpretation: str, codes: list[int], expected: list[int]) -> None:
    dataset: Any = {"54000100": {"vr": "SQ", "Value": [{"54001010": {"vr": "OB", "BulkDataURI": "x/bulkdata/here"}}]}}
    group = Group(0, "", 4, 8000.0, interpretation, (Channel("", ""),))
    found = values(dataset, group, 0, 4, lambda path, start, length: bytes(codes)[start : start + length])
    assert found[:, 0].tolist() == expected


HOSTILE: dict[str, dict[str, Any]] = {
    "no frequency": {"SamplingFrequency": 0},
    "impossible frequency": {"SamplingFrequency": "1e30"},
    "no samples": {"NumberOfWaveformSamples": 0},
    "no channels": {"NumberOfWaveformChannels": 0},
    "more channels than are described": {"NumberOfWaveformChannels": 600},
    "unknown samples": {"WaveformSampleInterpretation": "XX"},
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_what_cannot_be_traced_is_said(client: TestClient, name: str) -> None:
    store(client, waveform(pulse(), channel(), **HOSTILE[name]))
    answer = get(client, f"{ONE}/rendered", "image/png")
    assert answer.status_code == 406
    assert re.search("channels|samples", answer.text)
    assert get(client, f"{ONE}/thumbnail", "image/png").status_code == 200


@pytest.mark.parametrize(
    "attributes",
    [{"NumberOfWaveformSamples": 4_000_000_000}, {"SamplingFrequency": "1e-9"}, {"SamplingFrequency": "1e9"}, {"WaveformPaddingValue": b"\0"}],
)
def test_lies_are_drawn_as_far_as_they_go(client: TestClient, attributes: dict[str, Any]) -> None:
    store(client, waveform(pulse(), channel(), **attributes))
    assert get(client, f"{ONE}/rendered", "image/png").status_code == 200


@pytest.mark.parametrize("sensitivity", [0.0, 1e300, -1e12, None])
def test_absurd_sensitivities(client: TestClient, sensitivity: float | None) -> None:
    store(client, waveform(pulse(), channel(sensitivity=sensitivity)))
    assert get(client, f"{ONE}/rendered", "image/png").status_code == 200
    assert get(client, f"{ONE}/rendered", "image/svg+xml").status_code == 200


def test_nothing_at_all() -> None:
    with pytest.raises(CannotDecode, match="no waveforms"):
        groups({})
    (part,) = parts((Group(0, "", 10, 1.0, "SS", (Channel("A", "mV"),)),), "")
    assert traced(part, np.empty((0, 1)), (), 1, 1).svg("empty").startswith(b"<svg")
