"""Log models to MLflow as a training run would: run in a process of its own.

python log_models.py TRACKING_URI MODEL.onnx
"""

from __future__ import annotations

import os
import sys

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow
import onnx

mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("training")
with mlflow.start_run(run_name="trained", tags={"mlflow.source.git.commit": "c0ffee"}) as run:
    for _ in range(2):
        mlflow.onnx.log_model(
            onnx.load(sys.argv[2]), name="model", registered_model_name="digits", pip_requirements=[]
        )
    mlflow.log_artifact(sys.argv[2], "files")
    mlflow.log_dict({"weights": "elsewhere"}, "odd/readme.json")
mlflow.MlflowClient().set_registered_model_alias("digits", "champion", "1")
print(run.info.run_id)
