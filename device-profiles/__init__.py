"""Device profiles as data: one TOML per class of device, read by name through edge_contracts.profile."""
