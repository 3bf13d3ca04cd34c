"""From a float graph to integers: statistics, ranges, rounding, bias correction, mixed precision."""
