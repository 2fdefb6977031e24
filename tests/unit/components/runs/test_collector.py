"""The garbage collector in component processes: rare, on, and blind to what was there before."""

import subprocess
import sys
from pathlib import Path

from components.runs.collector import MIDDLE, OLD, YOUNG

GARBAGE = """
import gc
from components.runs.collector import collect_rarely

class Node:
    alive = most = 0
    def __init__(self):
        self.itself = self
        Node.alive += 1
        Node.most = max(Node.most, Node.alive)
    def __del__(self):
        Node.alive -= 1

collect_rarely()
for _ in range(10 * 20_000):
    Node()
print(Node.most)
"""
FORK = """
import gc, os
from components.runs.collector import collect_rarely
kept = [[] for _ in range(1000)]
child = os.fork()
if not child:
    collect_rarely()
    os._exit(0 if gc.get_freeze_count() > 1000 and gc.get_threshold()[0] == 20_000 else 1)
assert os.waitpid(child, 0)[1] == 0
assert (gc.get_freeze_count(), gc.get_threshold()[0]) == (0, 700)
"""
STEP = """
import gc
from components.runs.step import main
def work(step): raise ValueError((gc.isenabled(), *gc.get_threshold(), gc.get_freeze_count() > 0))
main('ingest', work)
"""


def output_of(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_garbage_is_kept_longer_than_by_default_and_not_without_bound() -> None:
    default, most = 700, int(output_of(GARBAGE))
    assert 10 * default < most < 1.01 * YOUNG


def test_it_holds_in_a_forked_child_and_leaves_the_parent_alone() -> None:
    assert output_of(FORK) == ""


def test_a_component_process_collects_rarely(tmp_path: Path) -> None:
    arguments = ["--pipeline", "digits", "--run-id", "a", "--root", str(tmp_path)]
    said = output_of(STEP, *arguments)
    assert f"(True, {YOUNG}, {MIDDLE}, {OLD}, True)" in said
