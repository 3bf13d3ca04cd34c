"""What one answer rests on: which part of a picture, which numbers of a vector."""
