"""TFRecord files without TensorFlow: every cut and every changed byte is found."""

import struct
from pathlib import Path

import pytest

from components.data.shards import broken_shard, check_shards, read_shard
from components.data.tfrecord_shards import write_shard
from contract.errors import DataError

RECORDS = [b"first", b"", b"third one"]


@pytest.fixture(params=["gzip", "none"])
def shard(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / ("a.tfrecord.gz" if request.param == "gzip" else "a.tfrecord")
    write_shard(path, RECORDS, request.param)
    return path


def test_records_come_back_in_order_and_files_have_the_same_bytes(shard: Path) -> None:
    assert list(read_shard(shard)) == RECORDS
    again = shard.with_name("b" + shard.name)
    write_shard(again, iter(RECORDS), "gzip" if shard.suffix == ".gz" else "none")
    assert again.read_bytes() == shard.read_bytes()
    assert broken_shard([shard, again]) == ""


def test_a_record_has_length_and_masked_checksums(tmp_path: Path) -> None:
    # CRC-32C of "123456789" is e3069283 (RFC 3720, B.4 uses the same polynomial); rotated right by
    # 15 bits and a282ead8 added it is c78ab0e5.
    write_shard(tmp_path / "a.tfrecord", [b"123456789"], "none")
    content = (tmp_path / "a.tfrecord").read_bytes()
    assert content[:8] == struct.pack("<Q", 9)
    assert content[12:21] == b"123456789"
    rotated = (0xE3069283 >> 15 | 0xE3069283 << 17) & 0xFFFFFFFF
    assert struct.unpack("<I", content[21:]) == ((rotated + 0xA282EAD8) & 0xFFFFFFFF,)


def test_no_records_are_a_whole_file(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tfrecord.gz", [])
    assert list(read_shard(tmp_path / "a.tfrecord.gz")) == []
    check_shards([tmp_path / "a.tfrecord.gz"])


def test_every_cut_but_that_between_plain_records_is_found(shard: Path) -> None:
    content = shard.read_bytes()
    between = {0, 16 + 5, 16 + 5 + 16} if shard.suffix == ".tfrecord" else {0, 1}
    for length in set(range(len(content))) - between:
        shard.write_bytes(content[:length])
        problem = broken_shard([shard])
        assert problem.startswith(f"{shard}: ") and "start a new run" in problem, length
        assert "truncated" in problem or "a record is cut off" in problem, problem


def test_every_changed_byte_of_a_plain_file_is_found(tmp_path: Path) -> None:
    shard = tmp_path / "a.tfrecord"
    write_shard(shard, RECORDS, "none")
    content = shard.read_bytes()
    for place in range(len(content)):
        changed = bytes([content[place] ^ 1])
        shard.write_bytes(content[:place] + changed + content[place + 1 :])
        with pytest.raises(DataError, match="does not match its checksum"):
            list(read_shard(shard))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"x,y\n1,2\n", "corrupt, not whole gzip"), (b"\x1f\x8b", "truncated")],
)
def test_what_is_no_gzip_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.tfrecord.gz").write_bytes(content)
    with pytest.raises(DataError, match=f"a.tfrecord.gz: {message}"):
        list(read_shard(tmp_path / "a.tfrecord.gz"))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tfrecord").mkdir()
    with pytest.raises(DataError, match="not readable"):
        list(read_shard(tmp_path / "a.tfrecord"))
