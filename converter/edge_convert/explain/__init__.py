"""Explanations of a compressed model, beside its float source's: for the report, never for the manifest."""
