"""The site builds without warnings, and loads nothing from other hosts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.drawn import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# References that a browser loads by itself, unlike links.
LOADED = re.compile(r'<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)="?((?:https?:)?//[^" >]+)')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_of_the_docs_is_on_it(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > 20
    assert [str(page) for page in pages if not (site / page).with_suffix(".html").exists()] == []


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = {
        (page.name, url)
        for page in site.rglob("*.html")
        for url in LOADED.findall(page.read_text(encoding="utf-8"))
    }
    assert loaded == set()
    sheets = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"']+", sheets) == []
    # The theme fetches a renderer for these from the network.
    assert not any('class="mermaid"' in page.read_text(encoding="utf-8") for page in site.rglob("*.html"))


def test_links_that_leave_the_docs_lead_to_what_they_name(site: Path) -> None:
    assert 'href="source/protos/evidence.proto.html"' in (site / "collector.html").read_text(encoding="utf-8")
    listing = (site / "source" / "envoy" / "examples.html").read_text(encoding="utf-8")
    assert all(path.name in listing for path in (ROOT / "envoy" / "examples").glob("*.yaml"))


def test_fields_and_commands_are_found(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = " ".join(entry["text"] for entry in index["docs"])
    assert "maxTokensPerSecond" in found
    assert "--workers" in found
    assert not any(entry["location"].startswith("source/") for entry in index["docs"])
