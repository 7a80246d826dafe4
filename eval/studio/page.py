"""The page of the studio, and the server behind it."""

from __future__ import annotations

from importlib.resources import files

import gradio as gr

from dlm_control.eval.studio.compare_tab import CompareTab
from dlm_control.eval.studio.guard import Gate
from dlm_control.eval.studio.results_tab import ResultsTab
from dlm_control.eval.studio.studio import Studio
from dlm_control.eval.studio.write_tab import WriteTab
from dlm_control.support.errors import UsageError

TITLE = "dlm studio"
# Of the page's frame, which the style sheet does not reach: Gradio confines that to what is inside.
NARROW = "<style>@media (max-width: 640px) { .gradio-container .main.app { padding: .5rem !important; } }</style>"
_QUEUE = 20  # visitors who wait; further ones are told to come back


def build(studio: Studio) -> gr.Blocks:
    """The page."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(f'<header class="st-top"><h1>{TITLE}</h1><p>Text that obeys several constraints at once.</p></header>')
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Write"):
                write = WriteTab(studio, page)
            with gr.Tab("Compare") as compare:
                CompareTab(studio, compare, write.yaml)
            with gr.Tab("Results") as results:
                ResultsTab(studio, results)

        def left(request: gr.Request) -> None:
            studio.stops.stop(str(request.session_hash))

        page.unload(left)
    return page.queue(max_size=_QUEUE, default_concurrency_limit=8)


def launch(page: gr.Blocks, host: str, port: int) -> str:
    """Serve the page, in the background.

    Args:
        page: of `build`.
        host: address to listen at.
        port: to listen at; 0 takes a free one.

    Returns:
        The page's address.

    Raises:
        UsageError: the address cannot be listened at.
    """
    from starlette.middleware import Middleware

    theme = gr.themes.Default(
        primary_hue="blue", neutral_hue="slate", radius_size="sm", spacing_size="sm",
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"],  # nothing is fetched from elsewhere
    )  # fmt: skip
    try:
        _, address, _ = page.launch(
            server_name=host, server_port=port or None, share=False, quiet=True, prevent_thread_lock=True, show_error=False,
            footer_links=[], run_history=False, enable_monitoring=False, ssr_mode=False, mcp_server=False, pwa=False,
            max_file_size=1, theme=theme, css=style(), head=NARROW, app_kwargs={"middleware": [Middleware(Gate)]},
        )  # fmt: skip
    except OSError as error:
        raise UsageError(f"studio: cannot listen at {host}:{port}: {error}; --port 0 takes a free port") from None
    return str(address)


def style() -> str:
    """The style sheet of the page."""
    return (files("dlm_control.eval.studio") / "style.css").read_text(encoding="utf-8")
