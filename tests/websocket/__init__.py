"""WebSocket and server-sent events through real gateways, with peers that are not ours."""
