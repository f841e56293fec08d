"""Locust against a running gateway: `python -m bench.locust journey|spike`."""
