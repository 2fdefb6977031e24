"""The command line of tensorflow_model_server."""

import pytest

from serving.standalone.flags import Flags, parse

MODEL = "--model_base_path=/models/half"


def test_defaults_are_those_of_the_real_program() -> None:
    flags = parse([MODEL], "serve-tf")
    assert flags == Flags(model_base_path="/models/half")
    assert (flags.port, flags.rest_api_port, flags.model_name) == (8500, 0, "default")
    assert (flags.rest_api_timeout_in_ms, flags.file_system_poll_wait_seconds) == (30_000, 1)
    assert (flags.max_num_load_retries, flags.load_retry_interval_micros) == (5, 60_000_000)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--enable_batching"], True),
        (["--enable_batching=true"], True),
        (["--enable_batching", "--port=1"], True),
        (["--enable_batching=false"], False),
        ([], False),
    ],
)
def test_a_boolean_flag_may_stand_alone(words: list[str], expected: bool) -> None:
    assert parse([MODEL, *words], "serve-tf").enable_batching is expected


def test_a_value_may_be_the_next_word() -> None:
    assert parse(["--model_base_path", "/m", "--port", "9"], "serve-tf").port == 9


def test_one_number_of_threads_stands_for_both_kinds() -> None:
    flags = parse([MODEL, "--tensorflow_session_parallelism=3"], "serve-tf")
    assert (flags.intra_op_threads, flags.inter_op_threads) == (3, 3)


@pytest.mark.parametrize("word", ["--help", "--helpfull"])
def test_help_names_each_flag(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([word], "serve-tf")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert [name for name in vars(Flags()) if f"--{name}" not in shown] == []


def test_what_has_no_effect_is_taken_and_told(caplog: pytest.LogCaptureFixture) -> None:
    parse([MODEL, "--flush_filesystem_caches=false", "--enable_profiler"], "serve-tf")
    assert [record.getMessage() for record in caplog.records] == [
        "--enable_profiler has no effect here",
        "--flush_filesystem_caches has no effect here",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of --model_base_path and --model_config_file must be set"),
        ([MODEL, "--port=0"], "one of --port and --grpc_socket_path must be set"),
        ([MODEL, "--port=7", "--rest_api_port=7"], "--port and --rest_api_port must differ"),
        ([MODEL, "--batching_parameters_file=/b"], "needs --enable_batching"),
        (["--model_base_path=models"], "found 'models', expected an absolute path"),
        ([MODEL, "--use_alts_credentials"], "unrecognized arguments: --use_alts_credentials"),
        ([MODEL, "--enable_batching=yes"], "found 'yes', expected true or false"),
        ([MODEL, "--port=http"], "--port: invalid int value: 'http'"),
    ],
)
def test_wrong_flags_end_the_program(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(words, "serve-tf")
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
