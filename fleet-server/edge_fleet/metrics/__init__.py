"""Metrics for Prometheus: figures of the whole fleet, never a series for each device."""
