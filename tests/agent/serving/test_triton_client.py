"""A client that was not written for us: NVIDIA's tritonclient, unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_bundles import GOLDEN_X, reference
from agent_serving import Served, served

triton = pytest.importorskip("tritonclient.http")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("triton")
    with served(folder) as running:
        yield running


@pytest.fixture
def client(up: Served) -> Iterator[Any]:
    made = triton.InferenceServerClient(f"{up.host}:{up.port}")
    yield made
    made.close()


def test_it_finds_server_and_model(up: Served, client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny", headers=up.headers)
    assert client.is_model_ready("tiny", "1", headers=up.headers)
    assert not client.is_model_ready("other", headers=up.headers)
    assert client.get_server_metadata(headers=up.headers)["name"] == "edge-agent"
    assert client.get_model_metadata("tiny", "1", headers=up.headers)["inputs"][0]["datatype"] == "FP32"


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_it_infers(up: Served, client: Any, binary: bool, compression: str | None) -> None:
    asked = triton.InferInput("x", GOLDEN_X.shape, "FP32")
    asked.set_data_from_numpy(GOLDEN_X, binary_data=binary)
    result = client.infer(
        "tiny",
        [asked],
        outputs=[triton.InferRequestedOutput("scores", binary_data=binary)],
        request_id="r1",
        timeout=10_000_000,
        headers=dict(up.headers),
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    assert result.get_response()["id"] == "r1"
    assert np.allclose(result.as_numpy("scores"), reference(GOLDEN_X), atol=1e-5)


def test_it_is_told_why_it_is_refused(up: Served, client: Any) -> None:
    asked = triton.InferInput("x", (1, 5), "FP32")
    asked.set_data_from_numpy(np.zeros((1, 5), np.float32))
    with pytest.raises(triton.InferenceServerException, match=r"shape \(1, 5\), expected \(n, 4\)"):
        client.infer("tiny", [asked], headers=dict(up.headers))
    with pytest.raises(triton.InferenceServerException, match="a bearer token is needed"):
        client.infer("tiny", [asked])
