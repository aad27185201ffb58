"""What the site does with links that leave docs/: pages of the repository become pages, files listings.

The pages are written so that their links work in the repository; here they are made to work on the site.
Decisions and references are listed by themselves, so that a new one needs no line in mkdocs.yml.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

__all__ = ["on_config", "on_files", "on_page_markdown"]

_ROOT: Final = Path(__file__).resolve().parents[1]
_PAGES: Final = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "k8s/README.md": "kubernetes.md",
}
_HOME: Final = {uri: path for path, uri in _PAGES.items() if uri != "index.md"}
_LINK: Final = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")
_HIDDEN: Final = "---\nsearch: {exclude: true}\n---\n"
_LOOKED_UP: Final = 3
"""How much more a page to look things up in counts in the search."""
_LISTED: Final = {"Decisions": "adr", "Reference": "reference"}
"""Sections that have every page of a folder."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the decisions and references there are, those that mkdocs.yml names before the others."""
    for title, folder in _LISTED.items():
        for pages in _sections(config.nav, title):
            found = [f"{folder}/{path.name}" for path in sorted((_ROOT / "docs" / folder).glob("*.md"))]
            pages += [page for page in found if page not in pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository, and a listing of each file or folder that some page links to."""
    for path, uri in _PAGES.items():
        if uri not in files.src_uris:
            files.append(File.generated(config, uri, abs_src_path=str(_ROOT / path)))
    for path in sorted({target for file in list(files) for target in _leaving(file)}):
        files.append(File.generated(config, _listing(path), content=_listed(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Turn links of the repository into links of the site, and show commands as commands."""
    here = page.file.src_uri
    if here.startswith("reference/"):
        page.meta.setdefault("search", {"boost": _LOOKED_UP})

    def moved(found: re.Match[str]) -> str:
        target = _repository_path(here, found[2])
        if not (_ROOT / target).exists() or here.startswith("source/"):
            return found[0]
        return f"{found[1]}{posixpath.relpath(_site_uri(target), posixpath.dirname(here) or '.')}{found[3]}"

    # Sessions without a prompt would be coloured as what is printed.
    return _LINK.sub(moved, markdown).replace("```console\n", "```bash\n")


def _sections(nav: Any, wanted: str) -> Iterator[list[Any]]:
    """Yield the sections of this title, wherever they stand."""
    match nav:
        case list():
            for item in nav:
                yield from _sections(item, wanted)
        case dict():
            for title, inner in nav.items():
                if title == wanted:
                    yield inner
                else:
                    yield from _sections(inner, wanted)
        case _:
            pass


def _leaving(file: File) -> Iterator[str]:
    """Yield the files and folders of the repository that a page links to and that are no pages here."""
    if not file.is_documentation_page():
        return
    for found in _LINK.finditer(file.content_string):
        target = _repository_path(file.src_uri, found[2])
        if (_ROOT / target).exists() and _site_uri(target) == _listing(target):
            yield target


def _repository_path(page: str, link: str) -> str:
    home = _HOME.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), link))


def _site_uri(path: str) -> str:
    if path.startswith("docs/"):
        inside = path.removeprefix("docs/")
        return inside if not (_ROOT / path).is_dir() else _listing(path)
    return _PAGES.get(path, _listing(path))


def _listing(path: str) -> str:
    return f"source/{path.rstrip('/')}.md"


def _listed(path: str) -> str:
    there = _ROOT / path
    files = [there] if there.is_file() else sorted(one for one in there.rglob("*") if one.is_file())
    parts = [f"{_HIDDEN}# {path}"]
    for file in files:
        if there.is_dir():
            parts.append(f"## {file.relative_to(there).as_posix()}")
        text = file.read_text(encoding="utf-8")
        parts.append(f"~~~~{file.suffix.lstrip('.') or 'text'}\n{text.rstrip()}\n~~~~")
    return "\n\n".join(parts) + "\n"
