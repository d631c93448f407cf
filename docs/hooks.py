"""What mkdocs cannot do by itself: links into the repository, and the help of the commands.

Pages are read on the site and in the repository. Files outside of `docs/` are not on the site, so
links to them become the names of the files. GitHub wants `|` escaped in the code of tables, which
Python-Markdown shows with its backslash. `<!-- commands -->` becomes what every command says for
`--help`, `<!-- try -->` a link to the page that runs in the browser, which is a part of the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
WIDTH = 88  # of the commands' help [characters]
_LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)#\s]+)(?:#[^)\s]*)?\)")
_COMMANDS = "<!-- commands -->"
_TRY = "<!-- try -->"
_TRY_LINK = '<p><a class="md-button md-button--primary" href="try/index.html">Try it here</a></p>'
_CODE = re.compile(r"`[^`\n]+`")
_FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs with the source of each page."""
    if _COMMANDS in markdown:
        markdown = markdown.replace(_COMMANDS, _all_commands())
    parts = _FENCE.split(markdown.replace(_TRY, _TRY_LINK))
    folder = Path(page.file.abs_src_path).parent

    def linked(match: re.Match[str]) -> str:
        return _name(match, folder)

    return "".join(
        part if part.startswith("```") else _CODE.sub(_plain, _LINK.sub(linked, part))
        for part in parts
    )


def on_post_build(config: Any, **_: Any) -> None:
    """Called by mkdocs when all pages are written."""
    from birefnet.export.web import write_site

    write_site("nano", Path(config.site_dir) / "try")


def _plain(code: re.Match[str]) -> str:
    return code.group(0).replace("\\|", "|")


def _name(match: re.Match[str], folder: Path) -> str:
    text, target = match.groups()
    path = (folder / target).resolve()
    if path.is_relative_to(ROOT / "docs") or not path.exists():
        return match.group(0)  # on the site, or broken: mkdocs sees to it
    name = path.relative_to(ROOT).as_posix()
    return f"`{name}`" if text.strip("`") in (name, path.name) else f"{text} (`{name}`)"


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
