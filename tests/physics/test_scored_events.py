"""What ``ScoredEvents`` refuses."""

import numpy as np
import pytest

from trigger_prune.errors import DataError
from trigger_prune.physics.scored_events import ScoredEvents


def build(scores=(1.0, 2.0, 3.0), signal=(-1, 0, 1), weights=(1.0, 1.0, 1.0), groups=(0, 1, 2), names=("a", "b")):
    return ScoredEvents(np.array(scores), np.array(signal), np.array(weights), np.array(groups), names)


def test_parts_are_the_rows_of_a_process():
    events = build(signal=(0, -1, 0), names=("a",), scores=(5.0, 6.0, 7.0), groups=(3, 4, 5))
    assert events.rows(-1).tolist() == [1]
    scores, weights, groups = events.part(0)
    assert (scores.tolist(), weights.tolist(), groups.tolist()) == ([5.0, 7.0], [1.0, 1.0], [3, 5])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scores": (1.0, np.nan, 2.0)}, "score of row 1 is nan"),
        ({"weights": (1.0, 1.0, -2.0)}, r"weight of row 2 is -2\.0"),
        ({"signal": (-1, 0, 2)}, "signal of row 2 is 2"),
        ({"signal": (-2, 0, 1)}, "signal of row 0 is -2"),
        ({"signal": (0, 0, 1)}, "no events with weight of background"),
        ({"weights": (1.0, 1.0, 0.0)}, "no events with weight of b"),
        ({"groups": (0, 1)}, r"groups has shape \(2,\) for 3 scores"),
        ({"signal": (-1, -1, -1), "names": ()}, "no signal process"),
    ],
)
def test_bad_events_are_named(changed, message):
    with pytest.raises(DataError, match=message):
        build(**changed)
