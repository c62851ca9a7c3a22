"""Keys open the API, each as far as its scope goes."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.integration.serving import make_key, serve_settings, serving


async def test_a_key_opens_the_api(tmp_path: Path) -> None:
    """A key of the organization is let in and told whose deployment it is."""
    settings = serve_settings(tmp_path)
    key = await make_key(settings, scope="read")
    async with serving(settings) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.get("/v1/organization", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert answer.json() == {"id": settings.organization_id, "name": settings.organization_id}


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic abc", "Bearer"])
async def test_nobody_else_is_let_in(tmp_path: Path, header: str | None) -> None:
    """Without a key of the organization the answer is 401, in the error shape."""
    headers = {} if header is None else {"authorization": header}
    async with serving(serve_settings(tmp_path)) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.get("/v1/organization", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["code"] == "UNAUTHORIZED"
