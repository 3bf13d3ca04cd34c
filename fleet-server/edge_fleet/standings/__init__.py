"""How every device of the fleet is doing, kept as a table that can be searched, sorted and counted."""
