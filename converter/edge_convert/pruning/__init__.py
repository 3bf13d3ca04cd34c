"""Smaller and faster forms of a graph: exact ones first, then those that lose something."""
