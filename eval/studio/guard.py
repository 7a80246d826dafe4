"""What keeps a page's visitors apart from each other, from the machine's files, and from stack traces."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from functools import cache, wraps
from typing import Any

from dlm_control.support.errors import UsageError

MOST_BODY = 200_000  # bytes that a page sends at a time
_CALLS = ("queue/join", "queue/data", "cancel", "startup-events")
_WHOLE = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", *(f"/{name}" for name in _CALLS))
_BELOW = ("/assets/", "/static/", "/svelte/", "/heartbeat/")
_log = logging.getLogger(__name__)


class Stops:
    """Which visitors have asked their runs to stop, or have left."""

    def __init__(self) -> None:
        self._events: dict[str, threading.Event] = {}

    def begun(self, visitor: str) -> Callable[[], bool]:
        """A run begins: a function that says whether it is to stop. An earlier run of the visitor's stops."""
        self.stop(visitor)
        event = self._events[visitor] = threading.Event()
        return event.is_set

    def stop(self, visitor: str) -> None:
        """Stop the visitor's run, if there is one."""
        event = self._events.pop(visitor, None)
        if event is not None:
            event.set()


def told(error: BaseException) -> str:
    """What a page says of an error; of one that is no user's mistake the details are for the log."""
    if isinstance(error, UsageError):
        return str(error)
    _log.error("studio", exc_info=error)
    return f"The studio failed ({type(error).__name__}); the terminal that it runs in has the details."


def guarded(function: Callable[..., Any], otherwise: Callable[[str], Any]) -> Callable[..., Any]:
    """A handler that answers an error with a message.

    Args:
        function: of the page.
        otherwise: the handler's answer, made of the message.
    """

    @wraps(function)
    def safe(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            return otherwise(told(error))

    return safe


def guarded_steps(function: Callable[..., Iterator[Any]], otherwise: Callable[[str], Any]) -> Callable[..., Iterator[Any]]:
    """As `guarded`, for a handler that yields."""

    @wraps(function)
    def safe(*args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            yield from function(*args, **kwargs)
        except Exception as error:
            yield otherwise(told(error))

    return safe


def locked_cache(function: Callable[[str], Any]) -> Callable[[str], Any]:
    """A function that is called once for each argument, by one thread at a time."""
    lock, known = threading.Lock(), cache(function)

    def called(argument: str) -> Any:
        with lock:
            return known(argument)

    return called


class Gate:
    """ASGI middleware that passes on what the studio's page asks for: no files by path, no uploads, proxies, or long bodies."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix("/gradio_api")
        if path not in _WHOLE and not path.startswith(_BELOW):
            await _refuse(send, 403, b"closed")
        elif scope["method"] == "POST" and not _short(dict(scope["headers"]).get(b"content-length", b"")):
            await _refuse(send, 413, b"too large")
        else:
            await self._app(scope, receive, send)


def _short(length: bytes) -> bool:
    """A body says how long it is, and is not too long; the server holds it to its word."""
    return length.isdigit() and int(length) <= MOST_BODY


async def _refuse(send: Callable[..., Any], status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})
