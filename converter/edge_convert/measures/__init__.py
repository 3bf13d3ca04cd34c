"""What answers are worth: metrics by task, slices, intervals, confidence, robustness."""
