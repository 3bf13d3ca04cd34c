"""Alerts: what the server finds wrong by itself, why it thinks so, and what proves it."""
