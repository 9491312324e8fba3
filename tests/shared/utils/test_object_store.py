"""Files in object stores, over a local server and fsspec's store in memory: what is kept, retried, refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from flaky_store import Store, flaky_store

from shared.utils.errors import UserError
from shared.utils.object_store import Ahead, ObjectPath, fetch_all, local_copy, object_path, place, retried

TEXT = b"0123456789"


@pytest.fixture
def flaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    store = flaky_store(monkeypatch, tmp_path / "kept")
    store.files.pipe_file("/a/b.tar", TEXT)
    return store


def test_a_lost_connection_is_told_and_the_same_bytes_come(flaky: Store, caplog: pytest.LogCaptureFixture) -> None:
    flaky.drops = 2
    assert ObjectPath("memory://a/b.tar").read(2, 3, lambda data: True) == b"234"
    assert [record.message for record in caplog.records] == [
        f"memory://a/b.tar: connection lost (ConnectionResetError: peer went away); trying again in {wait} s"
        for wait in (0.01, 0.02)
    ]


def test_a_connection_that_stays_lost_is_one_line(flaky: Store, tmp_path: Path) -> None:
    flaky.drops = 3
    with pytest.raises(UserError, match=r"memory://a/b.tar: cannot be reached \(Conn.*tried 3 times; see that it can"):
        ObjectPath("memory://a/b.tar").read(2, 3, lambda data: True)
    flaky.drops = 3
    with pytest.raises(UserError, match="cannot be reached"):
        ObjectPath("memory://a/b.tar").download(tmp_path / "x" / "b.tar")
    assert list((tmp_path / "x").iterdir()) == []  # nothing that looks whole


def test_what_was_read_is_kept_if_it_is_right(flaky: Store, tmp_path: Path) -> None:
    file = ObjectPath("memory://a/b.tar")
    for right, asked in ((False, 1), (True, 2), (True, 2)):
        assert file.read(0, 4, lambda data, right=right: right) == b"0123" and flaky.asked == asked  # type: ignore[misc]
    (kept,) = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    kept.write_bytes(b"01")  # damaged here: fetched again
    assert file.read(0, 4, lambda data: len(data) == 4) == b"0123" and flaky.asked == 3 and kept.read_bytes() == b"0123"


def test_as_a_path(flaky: Store, tmp_path: Path) -> None:
    folder = place("memory://a")
    assert isinstance(folder, ObjectPath) and folder / "b.tar" == ObjectPath("memory://a/b.tar")
    file = folder / "b.tar"
    assert (file.name, file.parent, str(file.with_suffix(".json"))) == ("b.tar", folder, "memory://a/b.json")
    assert file.is_file() and file.size() == 10 and not (folder / "c").is_file() and (folder / "c").size() == -1
    (tmp_path / "new").write_bytes(b"new")
    (folder / "new").upload(tmp_path / "new")
    assert flaky.files.cat_file("/a/new") == b"new"
    (folder / "new").remove()
    (folder / "new").remove()
    assert not (folder / "new").is_file() and file.is_file()
    assert place("file:///a/b") == place("/a/b") == Path("/a/b") and place(file) is file


def test_copies(flaky: Store, tmp_path: Path) -> None:
    with local_copy(ObjectPath("memory://a/b.tar")) as path:
        assert path.read_bytes() == TEXT
    assert not path.exists()
    with local_copy(tmp_path) as path:
        assert path is tmp_path
    wanted = {tmp_path / "1": ObjectPath("memory://a/b.tar"), tmp_path / "2": ObjectPath("memory://a/none")}
    assert list(fetch_all(wanted)) == [tmp_path / "2"] and (tmp_path / "1").read_bytes() == TEXT
    asked = flaky.asked
    assert list(fetch_all(wanted)) == [tmp_path / "2"] and flaky.asked == asked + 1  # the first is there


def test_what_is_fetched_ahead_is_waited_for() -> None:
    ahead, done = Ahead(), list[int]()
    for _ in range(2):
        ahead.fetch("a", lambda: done.append(1))
    ahead.fetch("b", lambda: 1 / 0)  # who asks for it meets with that
    for name in ("a", "b", "none"):
        ahead.wait(name)
    ahead.keep(["b"])
    ahead.fetch("a", lambda: done.append(1))
    ahead.wait("a")
    assert done == [1, 1]


@pytest.mark.parametrize(("url", "package"), [("s3://b/x", "s3fs"), ("gs://b/x", "gcsfs")])
def test_a_package_that_is_missing_is_named(url: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"{url}: needs the package {package}, which is not installed; install it"):
        ObjectPath(url).is_file()


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses_is_not_asked_again(status: int) -> None:
    asked = []

    class Refusal(Exception):
        pass

    def ask() -> None:
        asked.append(1)
        error = Refusal("no entry")
        error.status = status
        raise error

    with pytest.raises(UserError, match=r"x: the store refuses \(Refusal: no entry\)"):
        retried("x", ask)
    assert asked == [1]


def test_a_store_that_refuses_is_told_and_not_asked_again(
    flaky: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(flaky, "request", refuse)
    with pytest.raises(UserError, match=r"memory://a/b.tar: the store refuses \(PermissionError: Access Denied\); see"):
        ObjectPath("memory://a/b.tar").read(0, 4, lambda data: True)
    assert not caplog.records


def test_an_option_that_names_a_folder_in_a_store() -> None:
    assert object_path("--upload", None) is None
    assert object_path("--upload", "memory://a") == ObjectPath("memory://a")
    with pytest.raises(UserError, match="--upload data: the URL of a folder in an object store, as s3://bucket/lat"):
        object_path("--upload", "data")


def test_an_unknown_store_is_refused() -> None:
    with pytest.raises(UserError, match="nowhere://x: Protocol not known: nowhere; s3://, gs://, http:// or another"):
        ObjectPath("nowhere://x").is_file()
