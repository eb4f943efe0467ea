"""Requests that carry no body for the picker to read."""

from __future__ import annotations

import aiohttp
from fake_server import FakeServer
from test_picker_process import BASE, picker_for


async def test_methods_without_a_body_are_the_servers_to_answer() -> None:
    async with FakeServer([BASE]).serving() as server, picker_for(server.address) as picker:
        url = f"http://127.0.0.1:{picker.ports['pick']}/pick/ns/p"
        async with aiohttp.ClientSession() as session:
            for method, path in (
                ("GET", "/v1/models/m"),
                ("GET", "/health"),
                ("GET", "/v1/chat/completions"),
                ("OPTIONS", "/v1/chat/completions"),
                ("DELETE", "/v1/completions"),
                ("HEAD", "/v1/completions"),
            ):
                async with session.request(method, url + path) as answer:
                    assert answer.status == 200, (method, path)
                    assert answer.headers["x-gateway-destination-endpoint"] == server.address
            async with session.post(url + "/v1/completions") as answer:
                assert answer.status == 400


async def test_models_of_all_servers_are_one_list() -> None:
    async with FakeServer([BASE]).serving() as server, picker_for(server.address) as picker:
        url = f"http://127.0.0.1:{picker.ports['pick']}/pick/ns/p/v1/models"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            # The proxy turns this word into 200; a real 200 would send the request on.
            assert answer.status == 464
            assert [card["id"] for card in (await answer.json())["data"]] == [BASE["id"]]
