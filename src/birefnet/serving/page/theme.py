"""The page's look as Gradio wants it: our colours in its variables, and no font from elsewhere."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

FOLDER = Path(__file__).parent
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
CODE_FONTS = ("ui-monospace", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """Our colours, from `page.css`, for Gradio's own parts."""
    variables = {
        "body_background_fill": "var(--paper)",
        "body_text_color": "var(--ink)",
        "body_text_color_subdued": "var(--soft)",
        "background_fill_primary": "var(--sheet)",
        "background_fill_secondary": "var(--paper)",
        "block_background_fill": "var(--sheet)",
        "block_border_color": "var(--line)",
        "block_label_background_fill": "var(--sheet)",
        "block_label_text_color": "var(--soft)",
        "block_title_text_color": "var(--ink)",
        "block_info_text_color": "var(--soft)",
        "border_color_primary": "var(--line)",
        "border_color_accent": "var(--leaf)",
        "color_accent_soft": "var(--leaf-pale)",
        "link_text_color": "var(--leaf)",
        "link_text_color_hover": "var(--leaf-deep)",
        "input_background_fill": "var(--sheet)",
        "input_border_color": "var(--line)",
        "input_border_color_focus": "var(--leaf)",
        "input_placeholder_color": "var(--soft)",
        "slider_color": "var(--leaf)",
        "checkbox_background_color": "var(--sheet)",
        "checkbox_background_color_selected": "var(--leaf)",
        "checkbox_border_color": "var(--soft)",
        "checkbox_border_color_selected": "var(--leaf)",
        "checkbox_label_background_fill": "var(--sheet)",
        "checkbox_label_background_fill_hover": "var(--leaf-pale)",
        "checkbox_label_background_fill_selected": "var(--leaf-pale)",
        "checkbox_label_border_color": "var(--line)",
        "checkbox_label_border_color_selected": "var(--leaf)",
        "checkbox_label_text_color": "var(--ink)",
        "checkbox_label_text_color_selected": "var(--leaf-deep)",
        "button_primary_background_fill": "var(--leaf)",
        "button_primary_background_fill_hover": "var(--leaf-deep)",
        "button_primary_text_color": "var(--on-leaf)",
        "button_primary_border_color": "var(--leaf)",
        "button_secondary_background_fill": "var(--sheet)",
        "button_secondary_background_fill_hover": "var(--leaf-pale)",
        "button_secondary_text_color": "var(--ink)",
        "button_secondary_border_color": "var(--line)",
        "panel_background_fill": "var(--sheet)",
        "panel_border_color": "var(--line)",
        "error_background_fill": "var(--bad-pale)",
        "error_text_color": "var(--bad)",
        "error_border_color": "var(--bad)",
    }
    themed = gr.themes.Base(
        font=FONTS,
        font_mono=CODE_FONTS,
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
    )
    night = {f"{name}_dark": value for name, value in variables.items()}
    themed.set(
        color_accent="var(--leaf)",
        input_border_width="1px",
        block_border_width="1px",
        **variables,
        **night,
    )
    return themed


def text_of(name: str) -> str:
    """A file of the page's own: its template, script or style."""
    return (FOLDER / name).read_text(encoding="utf-8")
