"""The admin listener: health, metrics, configuration and reload, apart from all traffic."""
