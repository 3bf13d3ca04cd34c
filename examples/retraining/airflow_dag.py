"""What `receiver.py` runs, as an Airflow DAG: train on the reviewed samples, convert with them, publish.

Let receiver.py run `airflow dags trigger edgefleet_retrain --conf ...`: a scheduler needs no port of its own,
and signatures are checked in one place:

    python receiver.py http://fleet:8080 9000 /data/samples -- ./trigger.sh
    # trigger.sh: airflow dags trigger edgefleet_retrain --conf "{\"samples\": \"$1\"}"
"""

from __future__ import annotations

from datetime import datetime

from airflow import DAG  # type: ignore[import-not-found]
from airflow.operators.bash import BashOperator  # type: ignore[import-not-found]

with DAG("edgefleet_retrain", start_date=datetime(2024, 1, 1), schedule=None, catchup=False):
    train = BashOperator(
        task_id="train",
        bash_command="python train.py --samples {{ dag_run.conf['samples'] }} --output /data/model.onnx",
    )
    convert = BashOperator(
        task_id="convert",
        bash_command=(
            "edge-convert build /data/model.onnx --profile arm-cpu "
            "--calibration {{ dag_run.conf['samples'] }} "
            "--evaluation {{ dag_run.conf['samples'] }} --sign-key /keys/private.pem --output /data/bundle"
        ),
    )
    publish = BashOperator(
        task_id="publish",
        bash_command="edge-fleet release publish /data/bundle/*.bundle --server $EDGE_FLEET_SERVER",
    )
    train >> convert >> publish
