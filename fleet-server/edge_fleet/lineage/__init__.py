"""Where a model comes from and where it went: stages, search by digest, comparing, recall, who gets what."""
