"""The lab: every contestant in every scenario, side by side in one run: ``python -m benchmarks.lab``."""
