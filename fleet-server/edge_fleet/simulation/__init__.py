"""Replaying a rollout's plan against a fleet that is described, before anybody is reached."""
