"""The demo upstream: an echo API and a canned chat completion, in a process of its own."""
