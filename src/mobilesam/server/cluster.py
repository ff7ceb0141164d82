"""A server whose work is done by a Ray cluster: the application itself, in several processes that share nothing.

This process keeps the door. It sends each request on to the process that an image's id leads to, by Ray Serve's ring of
hashes. When a process dies, its part of the ring goes to others, which do not know its images: they answer 404, and
the client sends the image again, as after any 404 or 410.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mobilesam.core.errors import missing_extra
from mobilesam.segment.model import Model
from mobilesam.segment.session import hash_image
from mobilesam.server.door import Door
from mobilesam.server.images import ONE, file_in
from mobilesam.server.memory import keep_little
from mobilesam.server.options import ServeOptions
from mobilesam.server.refusals import Refusal
from mobilesam.server.service import Service, make_service, read_image
from mobilesam.work.ray import RayEngine, connected

IMAGES = ONE.partition("{")[0]
ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
TRIES = 3  # processes that are asked: a request may be made again, as none changes anything but what is kept
IN_FLIGHT = 64  # requests in one process; it refuses what it has no place for itself
HEAD = (
    "type",
    "http_version",
    "method",
    "scheme",
    "path",
    "raw_path",
    "query_string",
    "root_path",
    "headers",
)


class Replica:
    """One of the processes.

    Args:
        model: answers.
        options: what is allowed.
    """

    def __init__(self, model: Model, options: ServeOptions) -> None:
        from mobilesam.server.app import make_app

        keep_little()
        self.service = make_service(model, options)
        self.service.warm()
        self.app = make_app(self.service)

    async def answer(self, head: dict[str, Any], body: bytes) -> AsyncIterator[Message]:
        """Yield what the application sends for one request.

        The caller hangs up by asking for no more.
        """
        sent: asyncio.Queue[Message | None] = asyncio.Queue()
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if not parts:
                await asyncio.Event().wait()  # until this request is given up
            return parts.pop()

        async def send(message: Message) -> None:
            sent.put_nowait(message)

        task = asyncio.ensure_future(self.app(dict(head), receive, send))
        task.add_done_callback(lambda _: sent.put_nowait(None))
        try:
            while (message := await sent.get()) is not None:
                yield message
        finally:
            task.cancel()


class Front:
    """Sends each request on.

    Args:
        handle: Ray Serve's, of the processes.
        service: reads bodies, and knows how ids are made.
    """

    def __init__(self, handle: Any, service: Service) -> None:
        self.handle, self.service = handle, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        request = Request(scope, receive)
        body = await self.service.bodies.read(request)
        key = await self._key(request, body)
        head = {name: scope[name] for name in HEAD if name in scope}
        named = (b"x-request-id", scope["state"]["request_id"].encode())
        head["headers"] = [one for one in head["headers"] if one[0] != named[0]] + [named]
        begun = False
        for left in reversed(range(TRIES)):
            try:
                async for message in self.handle.options(stream=True, session_id=key).answer.remote(
                    head, body
                ):
                    begun = True
                    await send(message)
                return
            except Exception as error:
                if begun or not _is_death(error):
                    raise
                if not left:
                    raise Refusal(
                        503, "B", "the process that answers has ended; try again", {"Retry-After": "5"}
                    ) from error
                await asyncio.sleep(0.5)  # the ring must learn of it

    async def _key(self, request: Request, body: bytes) -> str:
        """Return what leads to a process: an image's id, or nothing in particular."""
        path = request.url.path
        if path.startswith(IMAGES):
            return path.removeprefix(IMAGES).partition("/")[0]
        if request.method != "POST" or path != IMAGES.rstrip("/"):
            return secrets.token_hex(8)
        data = await file_in(self.service, request, body)
        image, _ = await asyncio.to_thread(read_image, data, self.service.options.max_pixels)
        return self.service.store.identity_of(hash_image(image))


def _is_death(error: Exception) -> bool:
    from ray.exceptions import RayActorError

    return isinstance(error, RayActorError)


@contextmanager
def on_cluster(model: Model, service: Service, engine: RayEngine) -> Iterator[ASGIApp]:
    """Start the processes, and yield the application that sends requests on to them.

    Raises:
        MissingExtraError: if Ray Serve is not installed.
    """
    try:
        from ray import serve
        from ray.serve.config import RequestRouterConfig
    except ImportError as error:
        raise missing_extra("--engine ray", "serve-ray") from error
    with connected(engine):
        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        try:
            deployment = serve.deployment(Replica).options(
                num_replicas=engine.count(),
                max_ongoing_requests=IN_FLIGHT,
                ray_actor_options=engine.share(),
                health_check_period_s=2,
                health_check_timeout_s=30,
                request_router_config=RequestRouterConfig(
                    request_router_class=ROUTER, request_router_kwargs={"num_fallback_replicas": 0}
                ),
            )
            handle = serve.run(deployment.bind(model, service.options), route_prefix=None)
            yield Door(Front(handle, service), service)
        finally:
            serve.shutdown()
