"""A watched folder of specs, as a ConfigMap is mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from xds_server.sources import SpecFolder

if TYPE_CHECKING:
    from pathlib import Path


class Taken:
    def __init__(self) -> None:
        self.files: list[tuple[str, str]] = []

    async def __call__(self, text: str, file: str) -> None:
        self.files.append((file.rpartition("/")[2], text))


async def test_new_and_changed_files_are_applied_once(tmp_path: Path) -> None:
    taken = Taken()
    folder = SpecFolder(tmp_path, taken)
    (tmp_path / "a.yaml").write_text("one")
    (tmp_path / "notes.txt").write_text("not a spec")
    await folder.scan()
    await folder.scan()
    (tmp_path / "a.yaml").write_text("two")
    (tmp_path / "b.yml").write_text("three")
    await folder.scan()
    assert taken.files == [("a.yaml", "one"), ("a.yaml", "two"), ("b.yml", "three")]


async def test_a_mounted_config_map_swaps_a_link(tmp_path: Path) -> None:
    taken = Taken()
    for number in (1, 2):
        (tmp_path / f"..data{number}").mkdir()
        (tmp_path / f"..data{number}" / "a.yaml").write_text(str(number))
    (tmp_path / "..data").symlink_to("..data1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    folder = SpecFolder(tmp_path, taken)
    await folder.scan()
    (tmp_path / "next").symlink_to("..data2")
    (tmp_path / "next").rename(tmp_path / "..data")
    await folder.scan()
    assert taken.files == [("a.yaml", "1"), ("a.yaml", "2")]


async def test_a_folder_that_goes_away_is_said_and_survived(tmp_path: Path) -> None:
    taken = Taken()
    inside = tmp_path / "specs"
    folder = SpecFolder(inside, taken)
    with capture_logs() as logs:
        await folder.scan()
    assert [entry["event"] for entry in logs] == ["spec_folder_unreadable"]
    inside.mkdir()
    (inside / "a.yaml").write_text("one")
    await folder.scan()
    assert taken.files == [("a.yaml", "one")]
