"""PyTorch programs for the tests, with inputs and PyTorch's own answers: run in a process of its own.

python torch_programs.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


class Pictures(nn.Module):  # type: ignore[misc]
    """Convolutions of every kind, two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, padding=1), nn.Hardswish())
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Linear(8 + 2, 5)

    def forward(self, picture: torch.Tensor, extra: torch.Tensor) -> Any:
        x = self.stem(picture)
        x = x + self.depth(x) * torch.sigmoid(nn.functional.adaptive_avg_pool2d(x, 1))
        pooled = nn.functional.max_pool2d(x, 2).mean((2, 3))
        scores = torch.softmax(self.head(torch.cat([pooled, extra], 1)), -1)
        grown = nn.functional.interpolate(self.norm(self.up(x)), scale_factor=2.0, mode="bilinear")
        return scores, nn.functional.leaky_relu(grown[:, :, 4:-4, 4:-4], 0.1)


class Words(nn.Module):  # type: ignore[misc]
    """An attention block over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.first, self.second = nn.LayerNorm(16), nn.LayerNorm(16)
        self.feed = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.5), nn.Linear(32, 16), nn.SiLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return torch.tanh(x + self.feed(self.second(x))).transpose(1, 2)


class Classifier(nn.Module):  # type: ignore[misc]
    """For whole builds: small, and answers that differ."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(64, 10),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.body(x), 1)


class Counter(nn.Module):  # type: ignore[misc]
    """Keeps state from one call to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        return x * self.calls


class Branch(nn.Module):  # type: ignore[misc]
    """Goes one way or the other by what it sees."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))


def main(folder: Path) -> None:
    """Write every program, with what PyTorch answers."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    batch = torch.export.Dim("batch", max=64)
    pictures, words, classifier = Pictures().eval(), Words().eval(), Classifier().eval()
    for name, program, feeds, dynamic in (
        ("pictures", pictures, (torch.randn(4, 3, 16, 16), torch.randn(4, 2)), ({0: batch}, {0: batch})),
        ("words", words, (torch.randn(1, 7, 16),), None),
        ("classifier", classifier, (torch.randn(64, 1, 8, 8),), ({0: batch},)),
    ):
        exported = torch.export.export(program, feeds, dynamic_shapes=dynamic)
        torch.export.save(exported, folder / f"{name}.pt2")
        with torch.no_grad():
            answers = program(*feeds)
        answers = answers if isinstance(answers, tuple) else (answers,)
        arrays = {f"in{i}": feed.numpy() for i, feed in enumerate(feeds)}
        np.savez(folder / f"{name}.npz", **arrays, **{f"out{i}": a.numpy() for i, a in enumerate(answers)})
    one = (torch.randn(1, 4),)
    training = torch.export.export(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train(), one)
    torch.export.save(training, folder / "training.pt2")
    torch.export.save(torch.export.export(Counter(), one), folder / "counter.pt2")
    torch.export.save(torch.export.export(Branch(), one), folder / "branch.pt2")
    torch.save(classifier.state_dict(), folder / "weights.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
