"""What applications on a device ask its model and what they are told: the bodies, as JSON Schemas.

The Open Inference Protocol v2 (https://github.com/kserve/open-inference-protocol) and, beside it, answers in
labels or boxes. HTTP and MQTT carry the same; OpenAPI and AsyncAPI describe them from here. References are
"#/components/schemas/NAME", which both kinds of document have.
"""

from __future__ import annotations

from typing import Any

MEDIA = {
    "picture": ("image/jpeg", "image/png"),
    "sound": ("audio/wav", "audio/x-wav", "audio/vnd.wave"),
    "table": ("text/csv", "application/json"),
}  # of what is handed over, by the kind of rule (`processing.py`) that makes an input of it
_TENSOR_PARAMETERS = {"type": "object", "additionalProperties": True}
_DATATYPES = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"
]  # fmt: skip
SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["error", "code"],
        "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
    },
    "Server": {
        "type": "object",
        "required": ["name", "version", "extensions"],
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "extensions": {"type": "array", "items": {"type": "string"}},
        },
    },
    "TensorSpec": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "datatype": {"enum": _DATATYPES},
            "shape": {"type": "array", "items": {"type": "integer"}},
        },
    },
    "Model": {
        "type": "object",
        "required": ["name", "versions", "platform", "inputs", "outputs"],
        "properties": {
            "name": {"type": "string"},
            "versions": {"type": "array", "items": {"type": "string"}},
            "platform": {"type": "string"},
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorSpec"}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorSpec"}},
            "parameters": {"type": "object"},
        },
    },
    "Input": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "datatype": {"enum": _DATATYPES},
            "shape": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
            "parameters": _TENSOR_PARAMETERS,
            "data": {"type": "array"},
        },
    },
    "WantedOutput": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "parameters": _TENSOR_PARAMETERS},
    },
    "Output": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "datatype": {"enum": _DATATYPES},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "parameters": _TENSOR_PARAMETERS,
            "data": {"type": "array"},
        },
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {
                "type": "object",
                "properties": {
                    "binary_data_output": {"type": "boolean"},
                    "timeout": {"type": "integer", "minimum": 0, "description": "Microseconds."},
                    "routing_key": {"type": "string", "description": "Same key, same arm of an experiment."},
                },
            },
            "inputs": {
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/components/schemas/Input"},
            },
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/WantedOutput"}},
        },
    },
    "InferReply": {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Output"}},
        },
    },
    "AnswerReply": {
        "type": "object",
        "required": ["model_name", "model_version", "answers", "uncertain", "confidence", "flagged"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "answers": {
                "type": "array",
                "description": "One of each sample, by the contract of the model that answered.",
                "items": {
                    "type": "object",
                    "properties": {
                        "top": {"type": "array", "items": {"$ref": "#/components/schemas/Scored"}},
                        "boxes": {"type": "array", "items": {"$ref": "#/components/schemas/Scored"}},
                    },
                },
            },
            "uncertain": {"type": "boolean"},
            "confidence": {"type": ["number", "null"]},
            "flagged": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
    },
    "Scored": {
        "type": "object",
        "required": ["class", "index", "score"],
        "properties": {
            "class": {"type": "string"},
            "index": {"type": "integer"},
            "score": {"type": ["number", "null"]},
            "box": {
                "type": "array",
                "description": "Left, top, right, bottom, in shares of the picture's sides.",
                "items": {"type": "number"},
            },
            "keypoints": {"type": "array"},
        },
    },
}
