"""The web server behind `maet app`: Streamlit's own, which refuses every request that is not meant for this machine."""

from __future__ import annotations

from pathlib import Path

from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import App
from streamlit.web.server.starlette.starlette_websocket import is_host_allowed

PROJECT = Path(__file__).resolve().parents[2]


class OwnHostsOnly:
    """Refuses pages and files asked for under a name that `server.allowedHosts` does not list.

    Streamlit checks it for the WebSocket alone. A page on the internet whose name is made to point to this machine would
    otherwise be served like a page of our own.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            if not is_host_allowed(host):
                refusal = PlainTextResponse("This server does not answer under that name.\n", 403)
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


app = App(PROJECT / "app.py", middleware=[Middleware(OwnHostsOnly)])
