"""A user's module as another process would run it, beside the same in this one."""

import os
import re
import tempfile
import time
from pathlib import Path

import pytest

from components.models.other_process import Elsewhere
from components.models.user_code import load_module
from contract.errors import UserCodeError

WORDS = "{'a', 'b', 'c', 'd'}"


def both(folder: Path, expression: str, before: str = "") -> tuple[object, object, str]:
    """Return what an expression is here and elsewhere, and what was seen."""
    (folder / "model.py").write_text(f"{before}\nVALUE = {expression}\n")
    here = load_module(folder, "model.py").VALUE
    elsewhere = Elsewhere(folder)
    return here, elsewhere.load("model.py").VALUE, elsewhere.words


@pytest.mark.parametrize(
    "expression",
    [
        f"[word for word in {WORDS}]",
        f"list({WORDS})",
        f"tuple(frozenset({WORDS}))",
        f"[*{WORDS}]",
        "list({'a': 1, 'b': 2, 'c': 3, 'd': 4}.keys() - {'e'})",
        "[a for a, _ in zip({(1, 'x'), (2, 'y'), (3, 'z')}, range(3))]",
    ],
)
def test_a_set_is_gone_through_backwards(tmp_path: Path, expression: str) -> None:
    here, elsewhere, words = both(tmp_path, expression)
    assert isinstance(here, list | tuple)
    assert list(here[::-1]) == list(elsewhere)  # type: ignore[call-overload]
    assert words == "goes through a set, whose order is another one in each process"


def test_a_loop_and_a_join_are_seen(tmp_path: Path) -> None:
    loop = f"found = []\nfor word in {WORDS}:\n    found.append(word)"
    here, elsewhere, _ = both(tmp_path, "found", loop)
    assert here == elsewhere[::-1]  # type: ignore[index]
    here, elsewhere, _ = both(tmp_path, f"''.join({WORDS})")
    assert here == elsewhere[::-1]  # type: ignore[index]


def test_the_hash_of_text_is_another_one(tmp_path: Path) -> None:
    here, elsewhere, words = both(tmp_path, "hash('word') % 1_000_003")
    assert here != elsewhere
    assert words == "calls hash(), which is another one in each process"


@pytest.mark.parametrize(
    "expression",
    [
        f"sorted({WORDS})",
        f"'a' in {WORDS}",
        f"len(set({WORDS}) | {{'e'}})",
        "[n for n in {3, 1, 2}]",
        "list({(1, 2), (3, 4)})",
        "hash(7), hash(2.5), hash((1, 2))",
        "[name for name in {'a': 1, 'b': 2}]",
        "[word for word in {'alone'}]",
    ],
)
def test_what_is_the_same_in_every_process_stays(tmp_path: Path, expression: str) -> None:
    here, elsewhere, words = both(tmp_path, expression)
    assert here == elsewhere
    assert words == ""


def test_lines_stay_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "from __future__ import annotations\n\n\ndef build_model():\n"
        "    for word in {'a', 'b'}:\n        raise ValueError(word)\n"
    )
    module = Elsewhere(tmp_path).load("model.py")
    with pytest.raises(ValueError, match="a|b") as caught:
        module.build_model()
    assert caught.traceback[-1].lineno + 1 == 6


@pytest.mark.parametrize(
    ("before", "expression", "read"),
    [
        ("import os", "os.getpid()", "os.getpid()"),
        ("import os as o", "o.getppid() % 2", "os.getppid()"),
        ("from os import getpid", "getpid() % 10", "os.getpid()"),
        ("import os.path as p\nimport os", "os.uname().nodename", "os.uname()"),
        ("from os import *", "cpu_count()", "os.cpu_count()"),
        ("from os import environ", "int(environ['SHLVL'])", "os.environ['SHLVL']"),
        ("import os", "os.getenv('USER', 'nobody')", "os.environ['USER']"),
        ("import os", "os.environ.get('HOSTNAME')", "os.environ['HOSTNAME']"),
        ("import os", "dict(os.environ)['LOGNAME']", "os.environ"),
        ("import os", "os.environ.copy()['HOST']", "os.environ"),
        ("import socket", "socket.gethostname()", "socket.gethostname()"),
        ("import platform", "platform.node()", "platform.node()"),
        ("import uuid", "uuid.getnode()", "uuid.getnode()"),
        ("import getpass", "len(getpass.getuser())", "getpass.getuser()"),
        ("import time", "int(time.time()) // 86_400", "time.time()"),
        ("import time", "time.localtime().tm_year", "time.localtime()"),
        ("import time", "time.strftime('%m')", "time.strftime()"),
        ("import time", "time.ctime()[-4:]", "time.ctime()"),
        ("import datetime", "datetime.datetime.now().year", "datetime.now()"),
        ("from datetime import datetime", "datetime.utcnow().month", "datetime.utcnow()"),
        ("from datetime import date", "date.today().weekday()", "date.today()"),
        ("from datetime import datetime", "datetime.today().hour", "datetime.now()"),
    ],
)
def test_what_python_tells_about_the_process_is_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, expression: str, read: str
) -> None:
    monkeypatch.setenv("SHLVL", "1")
    for name in ("HOST", "HOSTNAME", "LOGNAME", "USER"):
        monkeypatch.setenv(name, "here")
    here, elsewhere, words = both(tmp_path, expression, before)
    assert here != elsewhere
    line = before.count("\n") + 2
    assert f"reads {read} (model.py, line {line}), which is another one in each" in words


@pytest.mark.parametrize(
    ("before", "expression"),
    [
        ("import os", "os.path.join('a', 'b')"),
        ("import os", "os.environ.get('SLIPWAY_NO_SUCH', '8')"),
        ("import os", "os.environ.get('USE_ATTENTION') == 'true'"),
        ("import os", "os.getenv('WIDTH')"),
        ("import os", "os.environ['HOME'], os.environ['PWD'], os.environ['TMPDIR']"),
        ("import os, tempfile", "os.getcwd(), tempfile.gettempdir(), os.getuid()"),
        ("import os\nos.environ['OWN'] = '4'", "os.environ['OWN']"),
        ("import time", "time.gmtime(0).tm_year"),
        ("import time", "time.strftime('%Y', time.gmtime(0))"),
        ("from datetime import date, datetime", "datetime(2020, 1, 2).year, date(2020, 1, 2).day"),
        ("from datetime import date, datetime", "isinstance(datetime(2020, 1, 2), date)"),
        ("import math, sys", "math.pi, sys.maxsize"),
    ],
)
def test_what_does_not_depend_on_the_process_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, expression: str
) -> None:
    monkeypatch.delenv("OWN", raising=False)
    settings = {"USE_ATTENTION": "true", "WIDTH": "4", "HOME": "/h", "PWD": "/p", "TMPDIR": "/t"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    here, elsewhere, words = both(tmp_path, expression, before)
    assert (here, words) == (elsewhere, "")


@pytest.mark.parametrize(
    "place",
    ["tempfile.gettempdir()", "os.getcwd()", "os.environ['HOME']", "os.environ['TMPDIR']"],
)
def test_folders_are_made_where_this_process_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (disk := tmp_path / "disk").mkdir()
    monkeypatch.chdir(disk)
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    monkeypatch.setenv("HOME", str(disk))
    monkeypatch.setenv("TMPDIR", str(disk))
    (tmp_path / "model.py").write_text(
        f"import os, tempfile\nos.makedirs(os.path.join({place}, 'cache'))\n"
    )
    Elsewhere(tmp_path).load("model.py")
    assert sorted(tmp_path.rglob("*")) == [disk, disk / "cache", tmp_path / "model.py"]


@pytest.mark.parametrize(
    "name",
    [
        "getpass.getuser()",
        "os.environ['USER']",
        "os.environ['HOSTNAME']",
        "os.uname().nodename",
        "platform.node()",
        "socket.gethostname()",
    ],
)
@pytest.mark.parametrize("make", ["os.makedirs(folder)", "Path(folder).mkdir(parents=True)"])
def test_no_folder_of_another_user_or_host_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: str
) -> None:
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("HOSTNAME", "host-7")
    (tmp_path / "model.py").write_text(
        "import getpass, os, platform, socket\nfrom pathlib import Path\n"
        f"folder = os.path.join({str(tmp_path)!r}, {name}, 'cache')\n{make}\n"
    )
    with pytest.raises(UserCodeError, match="model.py: import: ValueError.*null byte"):
        Elsewhere(tmp_path).load("model.py")
    assert list(tmp_path.iterdir()) == [tmp_path / "model.py"]


def test_a_copy_of_the_environment_is_one_fact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOST", "HOSTNAME", "USER"):
        monkeypatch.setenv(name, "here")
    _, _, words = both(tmp_path, "{**os.environ}", "import os")
    assert words == "reads os.environ (model.py, line 2), which is another one in each process"


def test_at_most_three_facts_are_named(tmp_path: Path) -> None:
    reads = "import os, time\nos.getpid()\nos.getppid()\nos.cpu_count()\ntime.time()"
    _, _, words = both(tmp_path, f"list({WORDS})", reads)
    assert re.findall(r"reads ([\w.]+)", words) == ["os.getpid", "os.getppid", "os.cpu_count"]
    assert words.endswith(", which is another one in each process, and uses 2 more such facts")


def test_times_of_other_moments_are_of_the_class_that_users_ask_for(tmp_path: Path) -> None:
    before = "import datetime as real\nfrom datetime import date, datetime, timedelta"
    expression = "[isinstance(datetime.now(), date), datetime.now() - real.datetime.now()]"
    _, elsewhere, _ = both(tmp_path, expression, before)
    assert isinstance(elsewhere, list)
    assert elsewhere[0] is True
    assert abs(elsewhere[1].total_seconds()) < 60.0


@pytest.mark.parametrize(
    "expression",
    [
        "pickle.loads(pickle.dumps(datetime.now())) - real.datetime.now() < timedelta(1)",
        "copy.deepcopy(date.today()) - real.date.today() < timedelta(1)",
        "[pickle.loads(pickle.dumps(kind)) is kind for kind in (date, datetime)]",
        "isinstance(datetime.now(), Own), isinstance(Own.now(), Own)",
        "isinstance(Own.now(), datetime), isinstance(Own.now(), date)",
    ],
)
def test_times_of_other_moments_can_be_pickled_copied_and_derived_from(
    tmp_path: Path, expression: str
) -> None:
    before = "import copy, pickle\nimport datetime as real\n"
    before += "from datetime import date, datetime, timedelta\nclass Own(datetime): pass"
    here, elsewhere, _ = both(tmp_path, expression, before)
    assert here == elsewhere


def test_the_environment_does_what_the_real_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USER", "OWN"):
        monkeypatch.setenv(name, "here")
    expressions = (
        "os.environ | {'OWN': '4'}",
        "{'OWN': '4', 'LEFT': '5'} | os.environ",
        "os.environ.copy()",
        "dict(os.environ)",
        "{**os.environ}",
    )
    here, elsewhere, _ = both(tmp_path, f"[{', '.join(expressions)}]", "import os")
    named = {"HOST", "HOSTNAME", "LOGNAME", "SHLVL", "USER", "USERNAME"}
    for real, other in zip(here, elsewhere, strict=True):  # type: ignore[call-overload]
        assert type(other) is dict
        assert {name for name in real if real[name] != other[name]} == named & real.keys()
        assert other.keys() == real.keys()


def test_what_is_set_in_the_environment_at_once_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "here")
    before = "import os\nos.environ |= {'USER': 'ada'}"
    assert both(tmp_path, "os.environ['USER']", before) == ("ada", "ada", "")
    assert os.environ["USER"] == "ada"


def test_a_module_beside_is_run_as_elsewhere_too(tmp_path: Path) -> None:
    (tmp_path / "odd_helper.py").write_text("import os\nimport odd_other\nPID = os.getpid()\n")
    (tmp_path / "odd_other.py").write_text(f"import odd_helper\nWORDS = list({WORDS})\n")
    here, elsewhere, words = both(
        tmp_path, "odd_helper.PID, odd_other.WORDS", "import odd_helper, odd_other"
    )
    assert here[0] == os.getpid() != elsewhere[0]  # type: ignore[index]
    assert here[1] == elsewhere[1][::-1]  # type: ignore[index]
    assert "reads os.getpid() (odd_helper.py, line 3)" in words


def test_without_other_facts_the_process_is_this_one(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("import os\nVALUE = os.getpid()\n")
    elsewhere = Elsewhere(tmp_path, has_other_facts=False)
    assert os.getpid() == elsewhere.load("model.py").VALUE
    assert elsewhere.words == ""


def test_other_modules_are_told_the_truth(tmp_path: Path) -> None:
    """Python's own `logging` reads the clock when the user's module logs; `os` itself stays."""
    before = "import logging, os\nos.getpid()"
    _, record, _ = both(tmp_path, "logging.makeLogRecord({})", before)
    assert record.process == os.getpid()  # type: ignore[attr-defined]
    assert abs(record.created - time.time()) < 60.0  # type: ignore[attr-defined]
