"""Other servers around one .tflite file, for `serving_latency.py`: run by the Python of their environment.

    PYTHON serving_peers.py mlserver|kserve|litserve MODEL.tflite PORT

Each as its documentation has it, in the form that is fastest there: one worker, in process where it can
be. Nothing of Edgefleet is imported.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

OUTPUT = "y"


class Answerer:
    """LiteRT around a file, float in and float out, quantized as plainly as numpy has it."""

    def __init__(self, path: str) -> None:
        """Open the file."""
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=path, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        self.shape = [int(size) for size in self._input["shape"]]

    def __call__(self, values: Any) -> Any:
        """Answer one sample."""
        scale, zero = self._input["quantization"]
        if scale:
            values = np.clip(np.rint(values / np.float32(scale)) + zero, -128, 127).astype(
                self._input["dtype"]
            )
        self._interpreter.set_tensor(self._input["index"], values)
        self._interpreter.invoke()
        codes = self._interpreter.get_tensor(self._output["index"])
        scale, zero = self._output["quantization"]
        return (codes.astype(np.float32) - zero) * np.float32(scale) if scale else codes


def litserve(path: str, port: int) -> None:
    """LitServe; its own JSON."""
    import litserve as ls

    _importable("litserve_model", LITSERVE)
    os.environ["PEER_MODEL"] = path
    api = importlib.import_module("litserve_model").Api()
    ls.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=port, generate_client_file=False, log_level="warning"
    )


def kserve(path: str, port: int) -> None:
    """KServe's Python server; the Open Inference Protocol with binary tensors."""
    from kserve import InferOutput, InferResponse, Model, ModelServer

    class Served(Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__("m")
            self.answer = Answerer(path)
            self.ready = True

        def predict(self, payload: Any, _headers: Any = None, _response_headers: Any = None) -> Any:
            values = self.answer(payload.inputs[0].as_numpy())
            output = InferOutput(OUTPUT, list(values.shape), "FP32")
            output.set_data_from_numpy(values, binary_data=payload.use_binary_outputs)
            return InferResponse(payload.id, "m", [output])

    ModelServer(http_port=port, workers=1, enable_grpc=False, access_log_format=None).start([Served()])


def mlserver(path: str, port: int) -> None:
    """MLServer in one process; the Open Inference Protocol in JSON."""
    from mlserver.cli.main import main

    folder = Path(tempfile.mkdtemp())
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    settings |= {"parallel_workers": 0, "debug": False, "metrics_endpoint": None}
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "m", "implementation": "mlserver_model.Served", "parameters": {"uri": path}}
    (folder / "model-settings.json").write_text(json.dumps(model))
    _importable("mlserver_model", MLSERVER)
    sys.argv = ["mlserver", "start", str(folder)]
    asyncio.set_event_loop(asyncio.new_event_loop())
    main()


def _importable(name: str, text: str) -> None:
    """Make a module that this process and its children can import."""
    folder = tempfile.mkdtemp()
    (Path(folder) / f"{name}.py").write_text(text)
    places = [str(Path(__file__).parent), folder]
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    sys.path[:0] = places


LITSERVE = """
import os
import litserve
import numpy as np
from serving_peers import Answerer


class Api(litserve.LitAPI):
    def setup(self, device):
        self.answer = Answerer(os.environ["PEER_MODEL"])

    def decode_request(self, request):
        return np.array(request["data"], np.float32).reshape(self.answer.shape)

    def predict(self, values):
        return self.answer(values)

    def encode_response(self, values):
        return {"data": values.reshape(-1).tolist()}
"""
MLSERVER = """
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from serving_peers import Answerer


class Served(MLModel):
    async def load(self):
        self.answer = Answerer(self.settings.parameters.uri)
        return True

    async def predict(self, payload):
        values = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("y", self.answer(values.astype(np.float32)))
        return InferenceResponse(model_name="m", outputs=[output])
"""
PEERS = {"litserve": litserve, "kserve": kserve, "mlserver": mlserver}

if __name__ == "__main__":
    PEERS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
