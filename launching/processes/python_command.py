"""A Python command line run in a forked process: what `python -m` or `-c` would run, warm."""

import atexit
import contextlib
import gc
import logging
import os
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

_IS_FORKED = False
_WHILE_IMPORTING = logging.StreamHandler()


def is_forked() -> bool:
    """Tell whether a warm parent has forked this process, so that it has imported what that has."""
    return _IS_FORKED


def is_forkable(command: Sequence[str]) -> bool:
    """Tell whether a fork can run a command: it is this interpreter's, with `-m` or `-c`."""
    return len(command) > 2 and command[0] == sys.executable and command[1] in ("-m", "-c")


def prepare_titles() -> None:
    """Let forks of this process show their commands in `ps`; call it before the first fork.

    setproctitle finds its place by the variables that the process began with. It must not write
    over them: /proc/<pid>/environ tells who supervises a process.
    """
    with contextlib.suppress(ImportError):
        os.environ["SPT_NOENV"] = "1"
        from setproctitle import getproctitle

        getproctitle()
    os.environ.pop("SPT_NOENV", None)


def prepare_logging() -> None:
    """Let libraries meet a root logger that is set up, as they do in a component; call it first.

    Without a handler there TensorFlow's logger gets its own, and each of its lines comes twice in
    a fork that then sets up the root logger.
    """
    logging.getLogger().addHandler(_WHILE_IMPORTING)


def run_forked(command: Sequence[str]) -> NoReturn:
    """Run a forkable command in this process, which was just forked, and end the process.

    Standard streams, environment and folder are the caller's to set. Signals get the handlers
    that Python has at its start, and are no longer blocked.
    """
    global _IS_FORKED
    code, _IS_FORKED = 1, True
    try:
        gc.enable()  # off while a warm parent imports
        logging.getLogger().removeHandler(_WHILE_IMPORTING)
        _open_streams()
        _reset_signals()
        _seed_numpy()
        _set_title(command)
        code = _run(command)
        _finish()
    finally:
        os._exit(code)


def _open_streams() -> None:
    """Open standard output and error again: Python still treats them as the files of the parent."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        before = getattr(sys, f"__{name}__")
        stream = open(  # noqa: SIM115  (it stays open)
            descriptor, "w", encoding=before.encoding, errors=before.errors, closefd=False
        )
        stream.reconfigure(line_buffering=before.line_buffering, write_through=before.write_through)
        setattr(sys, name, stream)


def _run(command: Sequence[str]) -> int:
    try:
        _run_as_main(command)
    except SystemExit as ended:
        return _exit_code(ended)
    except BaseException as error:  # noqa: BLE001  # as the interpreter does
        _tell(error)
        return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _tell(error: BaseException) -> None:
    """Print what the interpreter would print: without the frames of this module, by the hook."""
    trace = error.__traceback__
    for _ in (_run, _run_as_main):
        trace = trace and trace.tb_next
    error.__traceback__ = trace
    try:
        sys.excepthook(type(error), error, trace)
    except Exception:  # noqa: BLE001  # the hook is the command's
        traceback.print_exc()


def _run_as_main(command: Sequence[str]) -> None:
    _, option, subject, *arguments = command
    sys.argv, sys.orig_argv = [option, *arguments], list(command)
    if not sys.flags.safe_path:  # strings, as the interpreter sets them
        sys.path[0] = os.getcwd() if option == "-m" else ""  # noqa: PTH109
    if option == "-m":
        runpy.run_module(subject, run_name="__main__", alter_sys=True)
        return
    sys.modules["__main__"] = module = ModuleType("__main__")
    exec(compile(subject, "<string>", "exec"), module.__dict__)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    at_start: dict[int, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGPIPE: signal.SIG_IGN,
    }
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, at_start.get(number, signal.SIG_DFL))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _seed_numpy() -> None:
    """Seed NumPy's global generator, which a fork would share; Python's `random` does it itself."""
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()


def _set_title(command: Sequence[str]) -> None:
    """Show the command in `ps`, as far as the parent's own command line left room."""
    if (titles := sys.modules.get("setproctitle")) is not None:
        titles.setproctitle(" ".join(["python", *command[1:]]))


def _exit_code(ended: SystemExit) -> int:
    if ended.code is None:
        return 0
    if isinstance(ended.code, int):
        return ended.code & 0xFF
    print(ended.code, file=sys.stderr)  # noqa: T201  # as the interpreter does
    return 1


def _finish() -> None:
    """Do what Python does at its end for others: wait for threads, call `atexit`, flush."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
