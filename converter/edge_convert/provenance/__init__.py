"""Where a bundle comes from: materials, DVC, MLflow, the ML-BOM."""
