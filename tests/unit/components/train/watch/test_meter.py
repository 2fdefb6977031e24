"""What one process measures of its own steps."""

import pytest

from components.train.watch.meter import Meter


def test_rates_and_shares_are_of_the_interval():
    seconds, waited = [100.0], [5.0]
    meter = Meter(lambda: waited[0], lambda: seconds[0])
    meter.start(10)
    seconds[0], waited[0] = 104.0, 6.0
    for loss in (1.0, 2.0):
        meter.note({"loss": loss, "input_seconds": 0.5})
    # 20 steps of 8 examples in 4 s, of which 1 s for input and 1 s for others
    assert meter.read(30, 8) == pytest.approx(
        {
            "loss": 1.5,
            "examples_per_second": 40.0,
            "step_ms": 200.0,
            "input_wait_ratio": 0.25,
            "peer_wait_ratio": 0.25,
            "idle_ratio": 0.5,
        }
    )


def test_reading_begins_a_new_interval():
    seconds = [0.0]
    meter = Meter(lambda: 0.0, lambda: seconds[0])
    meter.note({"loss": 8.0})
    seconds[0] = 1.0
    meter.read(1, 1)
    meter.note({"loss": 2.0})
    seconds[0] = 3.0
    figures = meter.read(2, 1)
    assert (figures["loss"], figures["step_ms"]) == (2.0, 2000.0)
