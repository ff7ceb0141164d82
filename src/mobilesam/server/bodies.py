"""Bodies of requests: read within limits of bytes and seconds, and only then parsed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from mobilesam.core.errors import MobileSamError, PromptError
from mobilesam.core.schema import Shape, check
from mobilesam.formats.json_text import read_json
from mobilesam.server.refusals import Refusal, busy, gone_away

SECONDS = 30.0  # a body may take
MAX_FIELDS = 32  # in a form
AT_ONCE = 8  # bodies of the largest size that fit into memory together before others are refused
NAME = "body"


@dataclass
class BodyReader:
    """Reads bodies, and refuses them while too many others are in memory.

    Attributes:
        limit: bytes that one body may have.
        held: bytes of all bodies that are being read or worked on.
    """

    limit: int
    held: int = 0

    async def read(self, request: Request) -> bytes:
        """Return a request's body.

        Raises:
            Refusal: 413 over the limit, before reading if the length is declared; 408 if it is slow.
        """
        length = request.headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > self.limit):
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(SECONDS):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self.limit:
                        raise self._too_large()
                    if self.held + len(chunk) > AT_ONCE * self.limit:
                        raise busy("body", 1)
                    self.held += len(chunk)
                    chunks.append(chunk)
        except TimeoutError as error:
            raise Refusal(
                408, "T", f"body: did not come within {SECONDS:g} s", {"Connection": "close"}
            ) from error
        except ClientDisconnect as error:
            raise gone_away() from error
        finally:
            self.held -= sum(map(len, chunks))
        return b"".join(chunks)

    async def read_json(self, request: Request, shape: Shape) -> Any:
        """Return a body's JSON, checked.

        Raises:
            PromptError: if it is not such JSON; names the place.
        """
        return body_to_json(await self.read(request), shape)

    async def read_form(self, request: Request) -> dict[str, bytes | str]:
        """Return a form's fields; files as bytes."""
        return await self.parse_form(request, await self.read(request))

    async def parse_form(self, request: Request, data: bytes) -> dict[str, bytes | str]:
        """Return the fields of a form that was read; files as bytes."""
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": data, "more_body": False}

        try:
            async with Request(request.scope, receive).form(
                max_files=4, max_fields=MAX_FIELDS, max_part_size=self.limit
            ) as form:
                return {
                    key: await value.read() if isinstance(value, UploadFile) else value
                    for key, value in form.multi_items()
                }
        except MultiPartException as error:
            raise Refusal(400, "U", f"body: is not a readable form ({error.message})") from error
        except Exception as error:
            if type(error).__name__ == "HTTPException":  # what Starlette makes of it inside an application
                raise Refusal(400, "U", "body: is not a readable form") from error
            raise

    def _too_large(self) -> Refusal:
        return Refusal(413, "L", f"body: has more than {self.limit >> 20} MiB, the limit; make it smaller")


def body_to_json(data: bytes, shape: Shape) -> Any:
    """Return the content of JSON bytes, checked; no bytes mean an empty object."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"{NAME}: not JSON in UTF-8", code="U") from error
    content = read_json(text, NAME, _fail) if text.strip() else {}
    check(content, shape, NAME, _malformed)
    return content


def _fail(message: str, code: str) -> MobileSamError:
    return PromptError(message, code=code)


def _malformed(message: str) -> MobileSamError:
    return PromptError(message, code="U")
