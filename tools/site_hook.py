"""What mkdocs needs to build the site from the repository as it is: pages for files outside docs/, and the installed package.

A page of docs/ links to files of the repository, such as ../configs/e2e.yaml, as GitHub shows them. The site gets a page for
each: Markdown as it is, a notebook as text and pictures, a text file in a frame, a folder as a list; pictures are copied.
"""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

from installed_tree import ROOT, link_packages
from mkdocs.structure.files import File, Files

_LINK = re.compile(r"(\]\()(?!\w+:)([^)#\s]+)(#[^)]*)?(\))")
_NAMED = re.compile(r"^(```\w+) file=(\S+)$", re.M)
_ROW, _CODE = re.compile(r"^\|.*$", re.M), re.compile(r"`[^`\n]+`")
_COPIED, _LONGEST = (".png", ".gif", ".svg"), 200  # suffixes of pictures; lines of a text file that are shown
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".jsonl": "json"}
_HOME = "repository"  # folder of the site for files outside docs/


def on_startup(command: str, dirty: bool) -> None:
    """Make the package as it is installed, for mkdocstrings; before `on_config`, at which it looks for the folder.

    Args:
        command: of mkdocs; not used.
        dirty: not used.
    """
    link_packages(ROOT / "build" / "package")


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each file outside docs/ that a page links to, and for those that these link to."""
    waiting = [Path(config.docs_dir, file.src_uri) for file in files if file.src_uri.endswith(".md")]
    while waiting:
        path = waiting.pop()
        if path.suffix != ".md":
            continue
        for link in _LINK.finditer(path.read_text(encoding="utf-8")):
            target = (path.parent / link[2]).resolve()
            if not target.is_relative_to(ROOT) or not target.exists() or target.is_relative_to(config.docs_dir):
                continue
            home = _uri(target)
            if files.get_file_from_path(home) is None:
                files.append(_page(target, home, config))
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Write a page as mkdocs reads it.

    Links that leave docs/ lead to the pages made for them. A code block shows the name of the file that a reader is to write.
    In the code of a table, GitHub wants `\\|` for a bar, and mkdocs the bar itself.

    Args:
        markdown: of the page.
        page: the page.
        config: of the site; its docs_dir is docs/.
        files: of the site; not used.
    """
    uri = page.file.src_uri
    source = ROOT / uri.removeprefix(f"{_HOME}/") if uri.startswith(f"{_HOME}/") else Path(config.docs_dir, uri)

    def here(link: re.Match[str]) -> str:
        target = (source.parent / link[2]).resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            return link[0]
        inside = target.is_relative_to(config.docs_dir)
        home = target.relative_to(config.docs_dir).as_posix() if inside else _uri(target)
        return f"{link[1]}{os.path.relpath(home, Path(uri).parent)}{link[3] or ''}{link[4]}"

    named = _NAMED.sub(r'\1 title="\2"', _LINK.sub(here, markdown))
    return _ROW.sub(lambda row: _CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0]), named)


def _uri(target: Path) -> str:
    """Where in the site a file of the repository is."""
    name = f"{_HOME}/{target.relative_to(ROOT).as_posix().lstrip('.')}"  # mkdocs leaves hidden files out
    return name if target.suffix in (".md", *_COPIED) else f"{name}.md"


def _page(target: Path, home: str, config: Any) -> File:
    """The page of a file, or its copy."""
    if target.suffix in _COPIED:
        return File.generated(config, home, content=target.read_bytes())
    if target.suffix == ".md":
        return File.generated(config, home, content=_front_matter_off(target.read_text(encoding="utf-8")))
    name = target.relative_to(ROOT).as_posix()
    if target.is_dir():
        listed = sorted(each.relative_to(target).as_posix() for each in target.rglob("*") if _shown(each))
        return File.generated(config, home, content=f"# {name}/\n\n" + "".join(f"- `{each}`\n" for each in listed))
    if target.suffix == ".ipynb":
        return File.generated(config, home, content=_notebook(target))
    lines = target.read_text(encoding="utf-8").splitlines()
    more = f"\nThe first {_LONGEST} of {len(lines):,} lines.\n" if len(lines) > _LONGEST else ""
    framed = "\n".join(["~~~~" + _LANGUAGES.get(target.suffix, "text"), *lines[:_LONGEST], "~~~~"])
    return File.generated(config, home, content=f"# {name}\n{more}\n{framed}\n")


def _shown(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts


def _front_matter_off(text: str) -> str:
    """A model card without the lines for the hub, which mkdocs would take for its own."""
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)


def _notebook(file: Path) -> str:
    """The cells of a notebook as Markdown; pictures stand in the page itself."""
    parts = []
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"~~~~python\n{source}\n~~~~")
        for output in cell.get("outputs", ()):  # printed text, a value, or a picture
            data = output.get("data", {})
            if "image/png" in data:
                picture = base64.b64encode(base64.b64decode(data["image/png"])).decode()
                parts.append(f'<img alt="what the cell above draws" src="data:image/png;base64,{picture}">')
            else:
                printed = "".join(output.get("text", data.get("text/plain", [])))
                parts.append(f"~~~~text\n{printed.rstrip()}\n~~~~")
    return "\n\n".join(parts) + "\n"
