"""Extensions of mkdocs: notebooks as pages, links into the repository, the help of the commands.

Pages are read on the site and in the repository. Each notebook becomes a page, with its outputs if
`RUN_NOTEBOOKS=1` is set (which runs them: minutes). Links to other files outside `docs/` become the
names of the files. GitHub wants `|` escaped in the code of tables, which Python-Markdown shows with
its backslash. `<!-- commands -->` becomes the `--help` text of every command, `<!-- try -->` a link
to the page that runs in the browser, which is a part of the site.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
WIDTH = 88  # of the commands' help [characters]
_LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")
_COMMANDS = "<!-- commands -->"
_TRY = "<!-- try -->"
_TRY_LINK = '<p><a class="md-button md-button--primary" href="try/index.html">Try it here</a></p>'
_CODE = re.compile(r"`[^`\n]+`")
_FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by mkdocs with the files of the site; adds a page for each notebook."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        page = f"notebooks/{path.stem}.md"
        files.append(File.generated(config, page, content=notebook_page(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Called by mkdocs with the source of each page."""
    if _COMMANDS in markdown:
        markdown = markdown.replace(_COMMANDS, _all_commands())
    uri = page.file.src_uri
    source = ROOT / uri if uri.startswith("notebooks/") else ROOT / "docs" / uri
    up = "../" * uri.count("/")

    def linked(match: re.Match[str]) -> str:
        return _site_link(match, source.parent, up)

    return "".join(
        part if part.startswith("```") else _CODE.sub(_plain, _LINK.sub(linked, part))
        for part in _FENCE.split(markdown.replace(_TRY, _TRY_LINK))
    )


def on_post_build(config: MkDocsConfig, **_: object) -> None:
    """Called by mkdocs when all pages are written."""
    from birefnet.export.web import write_site

    write_site("nano", Path(config.site_dir) / "try")


def notebook_page(path: Path) -> str:
    """A notebook as Markdown: its text, its code, and outputs where it was run."""
    book = json.loads(path.read_text(encoding="utf-8"))
    if os.environ.get("RUN_NOTEBOOKS") == "1":
        book = _run(path)
    parts = []
    for cell in book["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts += filter(None, map(output_text, cell["outputs"]))
    name = path.relative_to(ROOT).as_posix()
    return "\n\n".join([*parts, f"*This page is the notebook `{name}` of the repository.*"])


def _run(path: Path) -> Any:
    import nbclient
    import nbformat

    book = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        book, timeout=900, resources={"metadata": {"path": path.parent}}
    ).execute()
    return book


def output_text(output: Any) -> str:
    """A picture as HTML, or text as a block; "" for what is not shown."""
    data = output.get("data", {})
    if "image/png" in data:
        png = data["image/png"].strip()
        return f'<img alt="The picture of the cell above" src="data:image/png;base64,{png}">'
    text = _ANSI.sub("", "".join(output.get("text", data.get("text/plain", "")))).strip()
    return f"```text\n{text}\n```" if text else ""


def _plain(code: re.Match[str]) -> str:
    return code.group(0).replace("\\|", "|")


def _site_link(match: re.Match[str], folder: Path, up: str) -> str:
    """A link as the site has it: to a page, or the name of a file of the repository."""
    text, target, anchor = match.groups()
    path = (folder / target).resolve()
    if not path.exists():
        return match.group(0)  # broken: mkdocs reports it
    if path.is_relative_to(ROOT / "docs"):
        return f"[{text}]({up}{path.relative_to(ROOT / 'docs').as_posix()}{anchor or ''})"
    if path.parent == NOTEBOOKS and path.suffix == ".ipynb":
        return f"[{text}]({up}notebooks/{path.stem}.md)"
    return f"{text} (`{path.relative_to(ROOT).as_posix()}`)"


def _all_commands() -> str:
    import typer

    from birefnet.cli.main import app

    sections: list[str] = []

    def visit(command: Any, words: list[str]) -> None:
        if len(words) > 1:
            context = command.make_context(
                " ".join(words),
                [],
                resilient_parsing=True,
                terminal_width=WIDTH,
                max_content_width=WIDTH,
            )
            sections.append(f"## {' '.join(words)}\n\n```text\n{context.get_help()}\n```")
        for name, child in getattr(command, "commands", {}).items():
            visit(child, [*words, name])

    visit(typer.main.get_command(app), ["birefnet"])
    return "\n\n".join(sections)
