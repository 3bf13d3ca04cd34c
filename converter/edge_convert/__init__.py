"""edge-convert: from a trained model to a signed bundle that a class of device can run."""

import sys

# openvino reports usage to its maker as soon as it is imported. None makes the import of its telemetry client
# fail, which it takes as "not installed". Here, because this runs before any module of ours can import it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
