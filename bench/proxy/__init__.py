"""pygate beside nginx, HAProxy and Envoy on the same work, in the same run: `python -m bench.proxy`."""
