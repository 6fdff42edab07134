"""Atomic writes, and JSON files that may be damaged."""

import errno
import os
from pathlib import Path

import pytest

from ccloss.errors import InputError
from ccloss.training.files import append_line, read_json, temporary_files, write_atomically


def disk_is_full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "disk is full")


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_failed_write_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, call, disk_is_full)
    with pytest.raises(OSError, match="disk is full") as raised:
        write_atomically(path, b"new")
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_append_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(OSError, match="disk is full") as raised:
        append_line(tmp_path / "file", {})
    assert raised.value.filename == str(tmp_path / "file")


def test_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_written_files_have_the_permissions_of_the_umask(
    tmp_path: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", b"a long content")
        write_atomically(tmp_path / "file", b"short")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    assert (tmp_path / "file").read_bytes() == b"short"


def test_the_directory_is_synced_after_a_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record_sync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def record_rename(source: str, target: str) -> None:
        synced.append("rename")
        replace(source, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc/self/fd")
    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_rename)
    write_atomically(tmp_path / "file", b"x")
    assert synced[1:] == ["rename", str(tmp_path)]


def test_temporary_files_are_those_of_the_name(tmp_path: Path) -> None:
    for name in (".file.1a", ".other.1a", "file", "file.1a"):
        (tmp_path / name).touch()
    assert temporary_files(tmp_path, "file") == [tmp_path / ".file.1a"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[1]", b"3", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 100_000],
    ids=["empty", "cut", "null", "list", "number", "not UTF-8", "deep list", "deep object"],
)
def test_damaged_json_is_reported_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=r"file is damaged .*--overwrite") as raised:
        read_json(tmp_path / "file", "a run")
    assert "\n" not in str(raised.value)
