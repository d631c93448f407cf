"""Draw the parts of the package from their imports, for CONTRIBUTING.md.

    python docs/house.py

Each part is a folder or module of src/birefnet. It imports only parts below it; an arrow leads to a
part that no other arrow reaches. A test fails if docs/images/house.svg is not current.
"""

from __future__ import annotations

import ast
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "birefnet"
FIGURE = ROOT / "docs" / "images" / "house.svg"
# Where each part stands from left to right, so that no arrow crosses a box, and what is in it.
PLACES = {
    "api": (0.745, "load, remove_background"),
    "cli": (0.5, "the command birefnet"),
    "compat": (0.5, "rembg, fal, OpenAI …"),
    "compiling": (0.25, "numba"),
    "errors": (0.5, "for users"),
    "evaluation": (0.085, "metrics, reports"),
    "explain": (0.25, "maps inside a network"),
    "export": (0.58, "ONNX, OpenVINO, web"),
    "files": (0.7, "paths, URLs, writing"),
    "html_report": (0.085, "one template"),
    "imaging": (0.5, "decode, resize, encode"),
    "inference": (0.55, "predictor, guidance, engines"),
    "integrations": (0.66, "ComfyUI, transformers, Ray"),
    "matte": (0.42, "a picture and its alpha"),
    "network": (0.6, "the paper, in torch"),
    "options": (0.91, "every option, once"),
    "presets": (0.91, "named options"),
    "processes": (0.24, "work on all cores"),
    "serving": (0.749, "HTTP, the web page"),
    "terminal": (0.92, "messages, progress"),
    "training": (0.415, "data, losses, loop, recipes"),
    "video": (0.712, "frames in, frames out"),
    "weights": (0.68, "catalogue, download"),
}
# `compat` adds its commands, routes and nodes to these, which know only its lists of them.
HOSTS = ("cli", "serving", "integrations")

WIDTH, ROW, BOX_WIDTH, BOX_HEIGHT, TOP = 1120, 84, 176, 44, 40  # [px]
STYLE = """
text { font-family: sans-serif; font-size: 11px; fill: #444; text-anchor: middle }
.name { font-size: 14px; font-weight: bold; fill: #24527a }
rect { fill: #dbe7f6; stroke: #557 }
line { stroke: #778; stroke-width: 1.2; marker-end: url(#head) }
.title { font-size: 12px; text-anchor: start }
"""

Graph = dict[str, set[str]]


def imports() -> Graph:
    """Part → the parts that it imports, in functions and for types too."""
    parts = {_part(path) for path in SOURCE.rglob("*.py")} - {"__init__", "__main__"}
    graph: Graph = {part: set() for part in parts}
    for path in SOURCE.rglob("*.py"):
        if (part := _part(path)) in parts:
            graph[part] |= _imported(path) & parts - {part}
    for host in HOSTS:
        graph[host].discard("compat")
    return graph


def _part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def _imported(path: Path) -> set[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("birefnet.")}


def levels(graph: Graph) -> list[list[str]]:
    """Parts by the longest way down, the lowest first."""
    level: dict[str, int] = {}

    def of(part: str) -> int:
        if part not in level:
            level[part] = max((of(other) + 1 for other in graph[part]), default=0)
        return level[part]

    rows: list[list[str]] = [[] for _ in range(max(map(of, graph)) + 1)]
    for part in sorted(graph):
        rows[level[part]].append(part)
    return rows


def arrows(graph: Graph) -> Graph:
    """The imports that do not follow from others (transitive reduction)."""
    below: Graph = {}
    for row in levels(graph):
        for part in row:
            below[part] = graph[part].union(*(below[other] for other in graph[part]))
    return {
        part: {o for o in others if not any(o in below[p] for p in others)}
        for part, others in graph.items()
    }


def positions(graph: Graph) -> dict[str, tuple[float, float]]:
    """Centre of each box [px]."""
    rows = levels(graph)
    return {
        part: (WIDTH * PLACES[part][0], TOP + ROW * (len(rows) - 1 - number) + BOX_HEIGHT / 2)
        for number, row in enumerate(rows)
        for part in row
    }


def draw() -> str:
    """The figure as SVG."""
    graph = imports()
    at, reduced = positions(graph), arrows(graph)
    height = max(y for _, y in at.values()) + BOX_HEIGHT / 2 + 10
    lines = [
        _arrow(at[part], at[other]) for part in sorted(reduced) for other in sorted(reduced[part])
    ]
    boxes = [_box(part, *at[part]) for part in sorted(at)]
    title = (
        "Each part imports parts below it; arrows that follow from others are left out. "
        f"compat adds its commands, routes and nodes to {', '.join(HOSTS)}."
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}">\n<style>{STYLE}</style>\n'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#778"/></marker></defs>\n'
        '<rect width="100%" height="100%" style="fill:#fff;stroke:none"/>\n'
        f'<text class="title" x="10" y="20">{title}</text>\n'
        + "\n".join(lines + boxes)
        + "\n</svg>\n"
    )


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    half = BOX_HEIGHT / 2
    return (
        f'<line x1="{start[0]:.0f}" y1="{start[1] + half:.0f}" '
        f'x2="{end[0]:.0f}" y2="{end[1] - half:.0f}"/>'
    )


def _box(part: str, x: float, y: float) -> str:
    left, top = x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2
    return (
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5"/>'
        f'<text class="name" x="{x:.0f}" y="{y - 3:.0f}">{part}</text>'
        f'<text x="{x:.0f}" y="{y + 13:.0f}">{escape(PLACES[part][1])}</text>'
    )


if __name__ == "__main__":
    FIGURE.write_text(draw(), encoding="utf-8")
