"""Clients that others wrote, before the simulated providers: with the gateway between, or directly."""
