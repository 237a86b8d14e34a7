"""The table of transfer syntaxes agrees with pydicom's dictionary and with the corpus."""

from __future__ import annotations

import pytest
from pydicom.uid import UID, AllTransferSyntaxes

from storage.transfer_syntaxes import TABLE, Coding, lookup
from tests.support.corpus import corpus_files


@pytest.mark.parametrize("uid", sorted(TABLE), ids=str)
def test_properties_agree_with_pydicom(uid: str) -> None:
    theirs, ours = UID(uid), TABLE[uid]
    if uid not in AllTransferSyntaxes or ours.coding is Coding.REFERENCED:
        return
    assert ours.explicit_vr == (not theirs.is_implicit_VR)
    assert ours.little_endian == theirs.is_little_endian
    assert ours.deflated == theirs.is_deflated
    assert ours.encapsulated == theirs.is_encapsulated


def test_every_storage_syntax_of_pydicom_is_known() -> None:
    # SMPTE ST 2110 streams are real-time video and never stored (PS3.22).
    assert {uid for uid in AllTransferSyntaxes if uid not in TABLE and not uid.startswith("1.2.840.10008.1.2.7")} == set()


def test_every_syntax_of_the_corpus_is_known() -> None:
    used = {file.row["transfer_syntax_uid"] for file in corpus_files() if file.row["transfer_syntax_uid"].startswith("1.")}
    assert used <= set(TABLE)


def test_an_unknown_syntax_is_explicit_little_endian() -> None:
    unknown = lookup("1.2.3.4")
    assert (unknown.explicit_vr, unknown.little_endian, unknown.deflated) == (True, True, False)
