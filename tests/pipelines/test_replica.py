"""A replica in S3-compatible storage: only what is missing goes, nothing half is ever seen, damage is found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from nifti_files import write_nifti

from domains.domain import find_recipe
from domains.errors import SelfsightError, UsageError
from domains.recipe import Recipe
from pipelines import replica
from pipelines.dataset import open_dataset
from pipelines.ingest import ingest
from pipelines.replica import fetch, send

URL = "s3://archive/hospital"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    for name, value in {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "testing", "AWS_DEFAULT_REGION": "us-east-1",
                        "AWS_SECRET_ACCESS_KEY": "planted-secret"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    made = boto3.resource("s3").create_bucket(Bucket="archive")
    yield made
    made.objects.all().delete()
    made.delete()


@pytest.fixture
def recipe() -> Recipe:
    return find_recipe("brain_tumor")[1]


@pytest.fixture
def home(tmp_path: Path, recipe: Recipe) -> Path:
    for i in range(2):
        write_nifti(tmp_path / "archive" / f"ROE^JANE_{i}" / "flair.nii.gz", seed=i, shape=(24, 24, 12))
    ingest(tmp_path / "archive", recipe, tmp_path / "home")
    return tmp_path / "home"


def below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def objects(bucket: object) -> list[str]:
    return [one.key for one in bucket.objects.all()]  # type: ignore[attr-defined]


def test_send_and_fetch__the_same_store_and_no_name(home: Path, bucket: object, tmp_path: Path, recipe: Recipe) -> None:
    sent = send(home, URL)
    assert (sent.moved, sent.entries, sent.left_over) == (3, 3, 0)
    again = send(home, URL)
    assert (again.moved, again.bytes, again.entries) == (0, 0, 3)
    got = fetch(tmp_path / "other", URL)
    assert (got.moved, got.bytes) == (3, sent.bytes)
    assert below(tmp_path / "other" / "store") == below(home / "store")
    assert open_dataset(recipe, tmp_path / "other") == open_dataset(recipe, home)
    assert {name.split("/")[1] for name in objects(bucket)} == {"objects", "entries", "datasets"}
    bodies = [one.get()["Body"].read() for one in bucket.objects.all()]  # type: ignore[attr-defined]
    assert not any(
        word in text for text in [*bodies, *map(str.encode, objects(bucket))] for word in (b"JANE", b"flair.nii")
    )


def test_send__only_what_is_new(home: Path, bucket: object, tmp_path: Path, recipe: Recipe) -> None:
    send(home, URL)
    write_nifti(tmp_path / "archive" / "p9" / "flair.nii.gz", seed=9, shape=(24, 24, 12))
    ingest(tmp_path / "archive", recipe, home)
    assert send(home, URL).moved == 2  # one volume, one manifest
    assert fetch(tmp_path / "other", URL).moved == 5
    assert len(open_dataset(recipe, tmp_path / "other")[0].subjects) == 3


@pytest.mark.parametrize("after", [2, 5, -3, -2, -1])
def test_send__broken_off_anywhere__what_is_seen_is_whole_and_it_goes_on(
    home: Path, bucket: object, tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    calls, total = 0, len(below(home / "store")) + 3 + 1  # files, lists of three entries, a dataset

    def counted(name: str):  # type: ignore[no-untyped-def]
        real = getattr(replica.Replica, name)

        def call(self, *given):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += 1
            if calls > after % total:
                raise KeyboardInterrupt
            real(self, *given)

        return call

    with monkeypatch.context() as broken:
        for name in ("send", "write"):
            broken.setattr(replica.Replica, name, counted(name))
        with pytest.raises(KeyboardInterrupt):
            send(home, URL)
    fetch(tmp_path / "early", URL)
    stages = {path.parent.parent.name for path in (tmp_path / "early" / "store").glob("*/*/entry.json")}
    if "manifest" in stages:  # then all that it names is there
        assert len(list((tmp_path / "early" / "store" / "ingest").iterdir())) == 2
    if list((tmp_path / "early" / "datasets").glob("*.json")):
        open_dataset(recipe, tmp_path / "early")
    send(home, URL)
    fetch(tmp_path / "early", URL)
    assert below(tmp_path / "early" / "store") == below(home / "store")
    assert open_dataset(recipe, tmp_path / "early") == open_dataset(recipe, home)


def test_fetch__damaged_object__named_and_nothing_half(home: Path, bucket: object, tmp_path: Path) -> None:
    send(home, URL)
    name = next(key for key in objects(bucket) if "/objects/ingest/" in key and not key.endswith("entry.json"))
    body = bytearray(bucket.Object(name).get()["Body"].read())  # type: ignore[attr-defined]
    body[len(body) // 2] ^= 1
    bucket.Object(name).put(Body=bytes(body))  # type: ignore[attr-defined]
    with pytest.raises(SelfsightError, match="differs from its sha256") as error:
        fetch(tmp_path / "other", URL)
    assert name.removeprefix("hospital/") in str(error.value)
    damaged = name.split("/")[3]
    assert damaged not in {path.name for path in (tmp_path / "other" / "store" / "ingest").iterdir()}
    assert not (tmp_path / "other" / "store" / "manifest").exists()
    assert not list((tmp_path / "other").rglob("datasets/*.json"))


def test_fetch__a_file_outside_of_its_entry_is_refused(home: Path, bucket: object, tmp_path: Path) -> None:
    send(home, URL)
    name = next(key for key in objects(bucket) if "/entries/ingest/" in key)
    evil = {"files": {"../../../evil": {"sha256": "0", "bytes": 1}}}
    bucket.Object(name).put(Body=json.dumps(evil).encode())  # type: ignore[attr-defined]
    with pytest.raises(SelfsightError, match="names a file outside"):
        fetch(tmp_path / "other", URL)
    assert not (tmp_path / "evil").exists()


def test_send__prune_removes_what_the_home_has_no_more(home: Path, bucket: object) -> None:
    send(home, URL)
    gone = next((home / "store" / "ingest").iterdir())
    replica.Store(home).remove("ingest", gone.name)
    assert send(home, URL).left_over == 1
    assert any(gone.name in key for key in objects(bucket))
    assert send(home, URL, prune=True).pruned == 1
    assert not any(gone.name in key for key in objects(bucket))


def test_replica__wrong_addresses(home: Path, bucket: object) -> None:
    with pytest.raises(UsageError, match="s3://BUCKET/PREFIX"):
        send(home, "file:///tmp/x")
    with pytest.raises(SelfsightError, match="cannot be used") as error:
        send(home, "s3://not-there/x")
    assert "planted-secret" not in str(error.value)
