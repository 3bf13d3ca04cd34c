"""Webhooks: telling other programs, signed, until they have it."""
