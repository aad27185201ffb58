"""MkDocs hooks that convert links from docs/ to other files of the repository into links of the site.

Links in the pages are written for the repository. On the site, other Markdown pages of the repository become
pages of the site, and linked files and folders become generated listings. All decisions and reference pages
are added to the navigation, so that a new one needs no line in mkdocs.yml.
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
_REFERENCE_BOOST: Final = 3
"""Weight of reference pages in the search, relative to other pages."""
_FOLDERS: Final = {"Decisions": "adr", "Reference": "reference"}
"""Sections of the navigation that contain all pages of a folder."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add all decisions and reference pages to the navigation, after those listed in mkdocs.yml."""
    for title, folder in _FOLDERS.items():
        for pages in _sections(config.nav, title):
            found = [f"{folder}/{path.name}" for path in sorted((_ROOT / "docs" / folder).glob("*.md"))]
            pages += [page for page in found if page not in pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository, and a listing of each file or folder that a page links to."""
    for path, uri in _PAGES.items():
        if uri not in files.src_uris:
            files.append(File.generated(config, uri, abs_src_path=str(_ROOT / path)))
    for path in sorted({target for file in list(files) for target in _linked_sources(file)}):
        files.append(File.generated(config, _listing_uri(path), content=_listing_text(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Convert links of the repository into links of the site, and highlight commands as shell commands."""
    here = page.file.src_uri
    if here.startswith("reference/"):
        page.meta.setdefault("search", {"boost": _REFERENCE_BOOST})

    def converted(found: re.Match[str]) -> str:
        target = _repository_path(here, found[2])
        if not (_ROOT / target).exists() or here.startswith("source/"):
            return found[0]
        return f"{found[1]}{posixpath.relpath(_site_uri(target), posixpath.dirname(here) or '.')}{found[3]}"

    # In a `console` block without a prompt, commands would be highlighted as output.
    return _LINK.sub(converted, markdown).replace("```console\n", "```bash\n")


def _sections(nav: Any, wanted: str) -> Iterator[list[Any]]:
    """Yield the sections with this title, at any depth."""
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


def _linked_sources(file: File) -> Iterator[str]:
    """Yield the files and folders that a page links to and that are not pages of the site."""
    if not file.is_documentation_page():
        return
    for found in _LINK.finditer(file.content_string):
        target = _repository_path(file.src_uri, found[2])
        if (_ROOT / target).exists() and _site_uri(target) == _listing_uri(target):
            yield target


def _repository_path(page: str, link: str) -> str:
    home = _HOME.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), link))


def _site_uri(path: str) -> str:
    if path.startswith("docs/"):
        page = path.removeprefix("docs/")
        return page if not (_ROOT / path).is_dir() else _listing_uri(path)
    return _PAGES.get(path, _listing_uri(path))


def _listing_uri(path: str) -> str:
    return f"source/{path.rstrip('/')}.md"


def _listing_text(path: str) -> str:
    source = _ROOT / path
    files = [source] if source.is_file() else sorted(one for one in source.rglob("*") if one.is_file())
    parts = [f"{_HIDDEN}# {path}"]
    for file in files:
        if source.is_dir():
            parts.append(f"## {file.relative_to(source).as_posix()}")
        text = file.read_text(encoding="utf-8")
        parts.append(f"~~~~{file.suffix.lstrip('.') or 'text'}\n{text.rstrip()}\n~~~~")
    return "\n\n".join(parts) + "\n"
