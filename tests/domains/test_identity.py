"""Keyed ids are stable for a key, differ between keys, and the way back is private."""

from __future__ import annotations

import stat
from pathlib import Path

from domains.identity import Identity


def test_keyed__same_key_same_id_other_key_other_id(tmp_path: Path) -> None:
    one, again, other = Identity(tmp_path / "a"), Identity(tmp_path / "a"), Identity(tmp_path / "b")
    assert one.keyed("group", "site", "Jane Roe") == again.keyed("group", "site", "Jane Roe")
    assert one.keyed("group", "site", "Jane Roe") != other.keyed("group", "site", "Jane Roe")
    assert one.keyed("group", "site", "Jane Roe") != one.keyed("file", "site", "Jane Roe")
    assert one.keyed("group", "a", "bc") != one.keyed("group", "ab", "c")


def test_remember__private_files_and_whois(tmp_path: Path) -> None:
    identity = Identity(tmp_path / "config" / "key")
    identity.remember({"0123": "/archive/Jane Roe/flair.nii.gz"})
    identity.remember({"0123": "/archive/Jane Roe/flair.nii.gz", "4567": "/archive/John Doe/flair.nii.gz"})
    assert identity.whois(["0123", "ffff"]) == {"0123": "/archive/Jane Roe/flair.nii.gz"}
    book = tmp_path / "config" / "key.whois.jsonl"
    assert len(book.read_text().splitlines()) == 2
    for file in (book, tmp_path / "config" / "key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
