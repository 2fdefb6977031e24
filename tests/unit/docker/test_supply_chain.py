"""What is installed: pinned, checked by hashes, and in images nothing that only we need."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LOCKS = ("lock.txt", "docs.txt")
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
OF_OURS = {"dev", "peers"}  # extras for tests and benchmarks


def requirements(name: str) -> list[str]:
    text = (ROOT / "requirements" / name).read_text()
    return text.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_one_version_and_its_hashes(name: str) -> None:
    lines = requirements(name)
    assert len(lines) > 20
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[^ ]+( +--hash=sha256:[0-9a-f]{64})+", line), line[:80]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_index(name: str) -> None:
    assert "://" not in (ROOT / "requirements" / name).read_text()


def test_make_installs_by_hashes_only() -> None:
    text = (ROOT / "Makefile").read_text()
    installs = re.findall(r"(?:-m pip|UV\) pip) (?:sync|install).*?(?<!\\)\n", text, re.S)
    assert len(installs) == 4
    for command in installs:
        assert "--require-hashes" in command or "--no-deps --no-build-isolation" in command


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_installed_by_hashes_and_hold_nothing_of_our_tests(path: Path) -> None:
    text = path.read_text()
    extras = set(re.findall(r"--extra (\w+)", text))
    assert not extras & OF_OURS
    assert "--all-extras" not in text
    for command in re.findall(r"pip install.*?(?<!\\)\n", text, re.S):
        assert "lock.txt" in command or "uv.txt" in command
        # NVIDIA's packages are not in the lock
        assert "--require-hashes" in command or "and-cuda" in command


DOCKER = """#!/bin/sh
[ "$1 $2 $3" = "buildx imagetools inspect" ] && printf 'sha256:%064d' "${#6}"
"""


def test_make_pin_names_each_base_by_the_digest_of_its_tag_also_a_second_time(
    tmp_path: Path,
) -> None:
    """With a stand-in for Docker and the registry: it counts the letters of the tag."""
    shutil.copytree(ROOT / "docker", tmp_path / "docker", ignore=shutil.ignore_patterns("k*"))
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{docker.parent}:{os.environ['PATH']}"}
    for _ in range(2):
        subprocess.run(["make", "pin"], cwd=tmp_path, env=environment, check=True)
    for path in DOCKERFILES:
        before, after = (
            re.findall(r"^ARG BASE=(.*)", one.read_text(), re.M)
            for one in (path, tmp_path / "docker" / path.name)
        )
        assert after == [f"{tag}@sha256:{len(tag):064d}" for tag in before], path.name
        assert before or "ARG COMPONENTS=" in path.read_text(), "a base that cannot be pinned"


def test_images_say_what_they_hold_and_of_which_commit_they_are() -> None:
    theirs = "serving-tensorflow.Dockerfile"  # adds a model to an image that is not ours
    for path in (one for one in DOCKERFILES if one.name != theirs):
        text = path.read_text()
        name = f"slipway-{path.name.removesuffix('.Dockerfile')}"
        said = f"contract.bill_of_materials {name} ${{REVISION}} > /opt/slipway/sbom.cdx.json"
        assert said in text, path.name
        assert "LABEL org.opencontainers.image.revision=${REVISION}" in text, path.name


def test_compose_holds_nothing_of_our_tests() -> None:
    text = (ROOT / "docker" / "compose.yaml").read_text()
    assert set(re.findall(r"--extra (\w+)", text)) == {"local", "postgres"}
