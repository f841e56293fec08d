"""Closed loop: users who look at orders, place one, and ask the model, waiting between steps as people do.

The load follows the gateway: when it slows down, these users ask less. For what happens when they do not, see `spike`.
"""

from __future__ import annotations

import itertools

from locust import HttpUser, between, task

_numbers = itertools.count(1)


class Customer(HttpUser):
    wait_time = between(0.05, 0.2)

    def on_start(self) -> None:
        self.number = next(_numbers)

    @task(6)
    def look(self) -> None:
        self.client.get(f"/orders/{self.number}", name="GET /orders/{n}")

    @task(3)
    def order(self) -> None:
        order = {"customer": self.number, "lines": [{"sku": f"sku-{n}", "count": n + 1} for n in range(5)]}
        self.client.post("/orders", json=order, name="POST /orders")

    @task(1)
    def ask(self) -> None:
        question = {"model": "fast", "messages": [{"role": "user", "content": "Where is my order?"}]}
        self.client.post("/v1/chat/completions", json=question, name="POST /v1/chat/completions")
