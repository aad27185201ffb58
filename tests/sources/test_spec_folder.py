"""Watching a folder of spec files, such as a mounted ConfigMap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from xds_server.sources import SpecFolder

if TYPE_CHECKING:
    from pathlib import Path


class AppliedFiles:
    def __init__(self) -> None:
        self.files: list[tuple[str, str]] = []

    async def __call__(self, text: str, file: str) -> None:
        self.files.append((file.rpartition("/")[2], text))


async def test_new_and_changed_files_are_applied_once(tmp_path: Path) -> None:
    applied = AppliedFiles()
    folder = SpecFolder(tmp_path, applied)
    (tmp_path / "a.yaml").write_text("one")
    (tmp_path / "notes.txt").write_text("not a spec")
    await folder.scan()
    await folder.scan()
    (tmp_path / "a.yaml").write_text("two")
    (tmp_path / "b.yml").write_text("three")
    await folder.scan()
    assert applied.files == [("a.yaml", "one"), ("a.yaml", "two"), ("b.yml", "three")]


async def test_a_config_map_update_by_symlink_is_applied(tmp_path: Path) -> None:
    applied = AppliedFiles()
    for number in (1, 2):
        (tmp_path / f"..data{number}").mkdir()
        (tmp_path / f"..data{number}" / "a.yaml").write_text(str(number))
    (tmp_path / "..data").symlink_to("..data1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    folder = SpecFolder(tmp_path, applied)
    await folder.scan()
    (tmp_path / "next").symlink_to("..data2")
    (tmp_path / "next").rename(tmp_path / "..data")
    await folder.scan()
    assert applied.files == [("a.yaml", "1"), ("a.yaml", "2")]


async def test_a_missing_folder_is_logged_and_watched_until_it_appears(tmp_path: Path) -> None:
    applied = AppliedFiles()
    inside = tmp_path / "specs"
    folder = SpecFolder(inside, applied)
    with capture_logs() as logs:
        await folder.scan()
    assert [entry["event"] for entry in logs] == ["spec_folder_unreadable"]
    inside.mkdir()
    (inside / "a.yaml").write_text("one")
    await folder.scan()
    assert applied.files == [("a.yaml", "one")]


async def test_a_file_that_is_not_utf_8_is_reported_once_and_not_applied(tmp_path: Path) -> None:
    applied = AppliedFiles()
    folder = SpecFolder(tmp_path, applied)
    (tmp_path / "a.yaml").write_bytes(b"ab: \xff")
    (tmp_path / "b.yaml").write_text("one")
    with capture_logs() as logs:
        await folder.scan()
        await folder.scan()
    (entry,) = logs
    assert (entry["event"], entry["reason"]) == ("spec_file_unreadable", "not UTF-8 text (byte 4)")
    assert entry["file"] == str(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("two")
    await folder.scan()
    assert applied.files == [("b.yaml", "one"), ("a.yaml", "two")]
