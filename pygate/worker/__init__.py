"""A worker: uvloop around the Rust data plane. No Python runs here for a request unless its route names a plugin."""
