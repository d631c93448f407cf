"""The page for people: upload a picture, see it before and after, download the result."""

from __future__ import annotations

import os

from birefnet.errors import MissingExtraError

# Before Gradio is imported: it shall tell nobody that it runs.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

try:
    import gradio as _gradio
except ImportError:
    raise MissingExtraError("the page", "ui") from None
if int(_gradio.__version__.partition(".")[0]) < 6:
    raise MissingExtraError(f"the page (Gradio is {_gradio.__version__}, 6 is needed; it)", "ui")

from birefnet.serving.page.layout import build_page
from birefnet.serving.page.mount import mount_page

__all__ = ["build_page", "mount_page"]

del _gradio
