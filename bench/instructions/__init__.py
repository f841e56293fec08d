"""Instruction counts of fixed core workloads under callgrind: `python -m bench.instructions`."""
