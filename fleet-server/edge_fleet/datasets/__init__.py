"""Inputs that devices kept for review, labelled, and given back as a data set with its lineage."""
