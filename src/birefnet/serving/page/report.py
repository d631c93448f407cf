"""Progress, failures and files to fetch, as the page shows them. All text is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from birefnet.imaging.figure import Figure

MOST_LISTED = 1000  # failures with their reasons


def bar(done: float | None, text: str) -> str:
    """How far something is, 0 to 1 (None: unknown), and in words."""
    value = "" if done is None else f' value="{min(1.0, max(0.0, done)):.4f}"'
    return (
        f'<div class="report" role="status"><progress max="1"{value} aria-label="Progress">'
        f"</progress><p>{escape(text)}</p></div>"
    )


def problem(text: str) -> str:
    """What went wrong."""
    return f'<div class="report"><p class="report-problem" role="alert">{escape(text)}</p></div>'


def listed(title: str, lines: list[str]) -> str:
    """A list below a title; nothing for none."""
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines[:MOST_LISTED])
    if len(lines) > MOST_LISTED:
        items += f"<li>and {len(lines) - MOST_LISTED} more</li>"
    return f'<p class="report-title">{escape(title)}</p><ul class="report-list">{items}</ul>'


def thumbnails(title: str, figures: Sequence[Figure]) -> str:
    """Small pictures with captions and notes below a title; nothing for none."""
    if not figures:
        return ""
    items = "".join(
        f'<li><img src="{escape(each.uri, quote=True)}" alt="">'
        f"<b>{escape(each.caption)}</b>{escape(each.note)}</li>"
        for each in figures
    )
    return f'<p class="report-title">{escape(title)}</p><ul class="report-grid">{items}</ul>'


def link(url: str, name: str, text: str) -> str:
    """A button that saves a file."""
    return (
        f'<a class="report-link" href="{escape(url, quote=True)}" '
        f'download="{escape(name, quote=True)}">{escape(text)}</a>'
    )


def done(text: str, *parts: str) -> str:
    """The end of something."""
    return f'<div class="report"><p role="status">{escape(text)}</p>{"".join(parts)}</div>'


def size(count: int) -> str:
    """Bytes for people.

    >>> size(900), size(2_500_000)
    ('1 kB', '2.5 MB')
    """
    if count < 1_000_000:
        return f"{max(1, round(count / 1000))} kB"
    return f"{count / 1_000_000:.1f} MB"
