"""An engine was measured on one kind of CPU, and serves on another."""

from pathlib import Path

from contract.records.optimization import Machine
from serving.server.engines.cpu import differs_from, this_machine

CPUINFO = """processor\t: 0
model name\t: Example CPU 9000
flags\t\t: fpu avx2 avx512f fma

processor\t: 1
model name\t: Example CPU 9000
flags\t\t: fpu avx2
"""
MEASURED = Machine(cpu="Example CPU 9000", flags=("avx2", "avx512f", "fma"))


def test_the_cpu_and_its_units_are_read_where_the_kernel_writes_them(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    assert this_machine(tmp_path / "cpuinfo") == MEASURED
    assert this_machine(tmp_path / "absent") == Machine(cpu="unknown", flags=())


def test_another_machine_is_named_with_what_it_lacks_and_has() -> None:
    assert differs_from(MEASURED, MEASURED) == ""
    other = Machine(cpu="Other", flags=("amx_int8", "avx2", "fma"))
    assert differs_from(MEASURED, other) == (
        "measured on Example CPU 9000, this is Other; it lacks avx512f; it has amx_int8 beside"
    )
