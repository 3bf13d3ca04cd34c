"""Whether labels have shown a stated confidence to be too high. Pure.

A model that says 0.9 should be right nine times in ten. This bets against it, label by label, with
money that cannot grow in expectation while the model tells the truth or is modest: Waudby-Smith and
Ramdas, arXiv:2010.09686, section 4 (betting), for the differences of confidence and outcome. By
Ville's inequality the wealth ever exceeds 1 / alpha with probability alpha at most, however long and
however often one looks. It does not matter which inputs are labelled, as long as that is not chosen
by whether the answer was right.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, log1p

FALSE_ALARM = 1e-3  # over a model's whole time on a device
STAKES = (0.1, 0.3, 0.6, 0.95)  # shares of the wealth bet each time; below 1, so that it stays positive


@dataclass
class Honesty:
    """The bets against one model.

    Args:
        false_alarm: Largest probability to accuse a model that does not overstate its confidence.
    """

    false_alarm: float = FALSE_ALARM
    labels: int = 0
    overstated: bool = False

    def __post_init__(self) -> None:
        """Start every stake with its share of the money."""
        self._log_wealth = [-log(len(STAKES))] * len(STAKES)

    def see(self, confidence: float, right: bool) -> bool:
        """Count a labelled answer.

        Returns:
            True once: when this label makes the evidence sufficient.
        """
        self.labels += 1
        if self.overstated:
            return False
        gain = min(max(confidence, 0.0), 1.0) - right
        self._log_wealth = [
            wealth + log1p(stake * gain) for wealth, stake in zip(self._log_wealth, STAKES, strict=True)
        ]
        top = max(self._log_wealth)
        total = top + log(sum(exp(wealth - top) for wealth in self._log_wealth))
        self.overstated = total >= -log(self.false_alarm)
        return self.overstated
