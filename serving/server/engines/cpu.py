"""What this machine computes with."""

from pathlib import Path

from contract.records.optimization import Machine

# What decides how fast floats and int8 are multiplied, as the kernel names it: x86, then ARM.
_UNITS = frozenset(
    {
        "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
        "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
    }
)  # fmt: skip
_CPUINFO = Path("/proc/cpuinfo")


def this_machine(cpuinfo: Path = _CPUINFO) -> Machine:
    """Return the CPU's model and its vector and matrix units; 'unknown' where nothing says so."""
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    pairs = [line.partition(":") for line in lines if ":" in line]
    fields: dict[str, str] = {}
    for key, _, value in pairs:  # the first core speaks for all
        fields.setdefault(key.strip(), value.strip())
    units = {*fields.get("flags", "").split(), *fields.get("Features", "").split()} & _UNITS
    cpu = fields.get("model name") or fields.get("CPU part") or "unknown"
    return Machine(cpu=cpu, flags=tuple(sorted(units)))


def differs_from(measured: Machine, here: Machine) -> str:
    """Say what a machine lacks or has beside the one that was measured; empty if they are alike."""
    if measured == here:
        return ""
    lacking, more = set(measured.flags) - set(here.flags), set(here.flags) - set(measured.flags)
    words = [f"lacks {', '.join(sorted(lacking))}"] if lacking else []
    words += [f"has {', '.join(sorted(more))} beside"] if more else []
    return f"measured on {measured.cpu}, this is {here.cpu}" + "".join(f"; it {w}" for w in words)
