"""pygate beside Envoy, LiteLLM and Portkey on calls of models, in the same run: `python -m bench.ai`."""
