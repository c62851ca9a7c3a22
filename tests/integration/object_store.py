"""A stand-in for an S3 store on loopback: objects, multipart uploads, ranges, and signatures that have to be right."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

from aiohttp import web

BUCKET, KEY, SECRET, REGION = "calls", "AKIDTEST", "a-secret-of-the-tests", "eu-west-1"
URL = f"s3://{BUCKET}/recordings"


@dataclass
class ObjectStore:
    """What is in it, and how it behaves.

    Attributes:
        objects: by bucket and key, whole ones only.
        puts: keys of objects that were written, in order.
        parts: parts of uploads that are not complete.
        open: cleared while nothing that writes is answered.
        waiting: requests that came while it was closed.
        broken: whether everything is answered with 503.
        unsigned: requests whose signature was wrong.
    """

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    broken: bool = False
    asked: int = 0
    unsigned: int = 0

    @property
    def env(self) -> dict[str, str]:
        """The usual variables that lead to it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
        }

    async def asked_to_write(self) -> None:
        """Wait until something that writes came while it was closed."""
        async with asyncio.timeout(60):
            await self.waiting.wait()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if not _is_signed(request):
            self.unsigned += 1
            return web.Response(status=403, text=_error("SignatureDoesNotMatch"))
        if self.broken:
            return web.Response(status=503, text=_error("SlowDown"))
        body = await request.read()
        if request.method in ("PUT", "POST") and not self.open.is_set():
            self.waiting.set()
            await self.open.wait()
        return self._answer(request, request.path.removeprefix("/"), body)

    def _answer(self, request: web.Request, key: str, body: bytes) -> web.Response:
        query = request.query
        match request.method:
            case "PUT" if "partNumber" in query:
                self.parts[query["uploadId"]][int(query["partNumber"])] = body
                return web.Response(headers={"etag": f'"{hashlib.md5(body).hexdigest()}"'})
            case "PUT":
                return self._keep(key, body)
            case "POST" if "uploads" in query:
                upload = f"upload-{len(self.parts)}"
                self.parts[upload] = {}
                return web.Response(text=_xml("InitiateMultipartUploadResult", UploadId=upload, Key=key, Bucket=BUCKET))
            case "POST" if "delete" in query:
                names = re.findall(r"<Key>(.*?)</Key>", body.decode())
                for name in names:
                    self.objects.pop(f"{BUCKET}/{name}", None)
                return web.Response(text=_xml("DeleteResult", Deleted="".join(f"<Key>{name}</Key>" for name in names)))
            case "POST":
                parts = self.parts.pop(query["uploadId"])
                self._keep(key, b"".join(parts[number] for number in sorted(parts)))
                return web.Response(text=_xml("CompleteMultipartUploadResult", ETag='"whole"', Key=key, Bucket=BUCKET))
            case "DELETE":
                self.objects.pop(key, None)
                return web.Response(status=204)
            case _:
                return self._read(request, key)

    def _keep(self, key: str, body: bytes) -> web.Response:
        self.objects[key] = body
        self.puts.append(key)
        return web.Response(headers={"etag": f'"{hashlib.md5(body).hexdigest()}"'})

    def _read(self, request: web.Request, key: str) -> web.Response:
        if key not in self.objects:
            return web.Response(status=404, text=_error("NoSuchKey"))
        whole = self.objects[key]
        about = {"etag": '"whole"', "last-modified": "Mon, 02 Mar 2026 09:30:00 GMT", "content-type": "audio/ogg"}
        if request.method == "HEAD":
            return web.Response(headers={**about, "content-length": str(len(whole))})
        asked = request.http_range
        if asked.start is None and asked.stop is None:
            return web.Response(body=whole, headers=about)
        piece = whole[asked]
        start = len(whole) - len(piece) if (asked.start or 0) < 0 else asked.start or 0
        about["content-range"] = f"bytes {start}-{start + len(piece) - 1}/{len(whole)}"
        return web.Response(status=206, body=piece, headers=about)


@asynccontextmanager
async def object_store() -> AsyncIterator[ObjectStore]:
    """Run one that is open."""
    store = ObjectStore()
    store.open.set()
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{key:.*}", store.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    store.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield store
    finally:
        store.open.set()
        await runner.cleanup()


def _is_signed(request: web.Request) -> bool:
    """Return whether the request is signed as AWS asks (Signature Version 4), in its headers or in its query."""
    query = {name: value for name, value in request.query.items() if name != "X-Amz-Signature"}
    if "X-Amz-Signature" in request.query:
        date, scope = query["X-Amz-Date"], query["X-Amz-Credential"].partition("/")[2]
        names, given, payload = query["X-Amz-SignedHeaders"], request.query["X-Amz-Signature"], "UNSIGNED-PAYLOAD"
    else:
        said = request.headers.get("authorization", "")
        if not said.startswith("AWS4-HMAC-SHA256 "):
            return False
        parts = dict(part.strip().split("=", 1) for part in said.removeprefix("AWS4-HMAC-SHA256 ").split(","))
        date, scope = request.headers["x-amz-date"], parts["Credential"].partition("/")[2]
        names, given = parts["SignedHeaders"], parts["Signature"]
        payload = request.headers["x-amz-content-sha256"]
    canonical = "\n".join(
        [
            request.method,
            request.rel_url.raw_path,
            "&".join(f"{quote(name, safe='')}={quote(query[name], safe='')}" for name in sorted(query)),
            *(f"{name}:{request.headers[name].strip()}" for name in names.split(";")),
            "",
            names,
            payload,
        ]
    )
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), given)


def _xml(name: str, **values: str) -> str:
    inside = "".join(f"<{key}>{value}</{key}>" for key, value in values.items())
    return f'<?xml version="1.0" encoding="UTF-8"?><{name}>{inside}</{name}>'


def _error(code: str) -> str:
    return _xml("Error", Code=code, Message=code)
