"""Which parameter server holds which part of which variable."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.train.parameter_servers.partition import joined, partition

SHAPES = st.lists(
    st.lists(st.integers(1, 9), min_size=0, max_size=3).map(tuple), min_size=1, max_size=6
)


def test_large_variables_are_cut_and_loads_are_even():
    # 4 rows of 100 bytes in parts of at most 200: two parts, one on each server
    slices = partition([(4, 25), (2,)], servers=2, largest_bytes=200)
    assert [(s.variable, s.start, s.stop) for s in slices] == [(0, 0, 2), (0, 2, 4), (1, 0, 2)]
    assert {slices[0].server, slices[1].server} == {0, 1}


def test_a_small_variable_stays_whole():
    (only,) = partition([(3, 3)], servers=4, largest_bytes=1e6)
    assert only.is_whole


@given(shapes=SHAPES, servers=st.integers(1, 4), largest=st.sampled_from([4.0, 40.0, 1e9]))
def test_parts_put_together_are_the_variables(shapes, servers, largest):
    random = np.random.default_rng(0)
    values = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    slices = partition(shapes, servers, largest)
    assert {one.server for one in slices} <= set(range(servers))
    whole = joined(slices, [one.of(values[one.variable]) for one in slices])
    assert sorted(whole) == list(range(len(shapes)))
    for number, value in whole.items():
        np.testing.assert_array_equal(value, values[number])
