"""The official `openai` SDK and the `websockets` package against the simulator's Realtime API."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
import websockets
from websockets.sync.client import connect

from tests.providers.running import Simulator

KEY = {"authorization": "Bearer openai-key-1"}


def item(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def test_the_sdk_talks(providers: Simulator) -> None:
    client: Any = openai.OpenAI(base_url=f"{providers.url}/openai/v1", api_key="openai-key-1")
    with client.realtime.connect(model="gpt-realtime") as session:
        assert session.recv().type == "session.created"
        session.session.update(session={"type": "realtime", "instructions": "be brief"})
        assert session.recv().session.instructions == "be brief"
        for text in ("hello there", "describe"):
            session.conversation.item.create(item=item(text))
            session.response.create()
            said = []
            for event in session:
                if event.type == "response.output_text.delta":
                    said.append(event.delta)
                if event.type == "response.done":
                    break
        seen = json.loads("".join(said))
        assert seen["system"] == "be brief"
        assert [turn["text"] for turn in seen["turns"]] == ["hello there", "hello there", "describe"]
        assert event.response.usage.input_tokens == 2 + 2 + 2 + 1
    entry = providers.last()
    assert (entry["operation"], entry["model"], entry["status"]) == ("realtime", "gpt-realtime", 101)
    assert entry["usage"]["input"] == 2 + 2 + 7 and entry["usage"] == entry["sent"]
    assert entry["finished"] and not entry["gone"]


def address(providers: Simulator) -> str:
    return f"{providers.url.replace('http', 'ws')}/openai/v1/realtime?model=gpt-realtime"


def test_handshakes_are_refused_and_answered(providers: Simulator) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        connect(address(providers))
    assert refused.value.response.status_code == 401
    providers.faults({"operation": "realtime", "first": 1, "status": 429})
    with pytest.raises(websockets.InvalidStatus) as limited:
        connect(address(providers), additional_headers=KEY)
    assert limited.value.response.status_code == 429
    protocol: Any = "realtime"
    with connect(address(providers), additional_headers=KEY, subprotocols=[protocol]) as socket:
        assert socket.subprotocol == "realtime"
        assert socket.response is not None and socket.response.headers["x-request-id"]
        assert socket.ping().wait(5)


def test_messages_of_every_size_and_in_fragments(providers: Simulator) -> None:
    with connect(address(providers), additional_headers=KEY) as socket:
        assert json.loads(socket.recv())["type"] == "session.created"
        for size in (1, 200, 70_000):
            whole = json.dumps({"type": "conversation.item.create", "item": item("w" * size)})
            socket.send(iter([whole[:50], whole[50:60], whole[60:]]))
            assert json.loads(socket.recv())["item"]["content"][0]["text"] == "w" * size
            socket.recv()
        socket.send("nonsense")
        assert json.loads(socket.recv())["error"]["code"] == "invalid_event"
        socket.send(b"octets")
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1003


def test_a_session_can_be_cut_and_left(providers: Simulator) -> None:
    providers.faults({"cut_deltas": 3})
    with connect(address(providers), additional_headers=KEY) as socket:
        for told in ({"type": "conversation.item.create", "item": item("count to 9")}, {"type": "response.create"}):
            socket.send(json.dumps(told))
        with pytest.raises(websockets.ConnectionClosedError):
            while True:
                socket.recv(timeout=5)
    entry = providers.last()
    assert entry["cut"] and entry["sent"]["output"] == 3 and entry["usage"]["output"] == 9
    providers.faults({"delay_delta": 20})
    with connect(address(providers), additional_headers=KEY) as socket:
        for told in ({"type": "conversation.item.create", "item": item("count to 999")}, {"type": "response.create"}):
            socket.send(json.dumps(told))
        for _ in range(10):
            socket.recv(timeout=5)
        socket.socket.close()
    entry = providers.last()
    assert entry["gone"] and not entry["finished"] and entry["sent"]["output"] < 100
