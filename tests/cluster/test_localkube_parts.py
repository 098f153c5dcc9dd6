"""The parts of localkube that are pure: addresses, pip's settings, process identity, image archives."""

import io
import itertools
import json
import os
import subprocess
import tarfile
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from tests.cluster.localkube.addresses import SLOTS, addresses_of
from tests.cluster.localkube.archive import single_program_image, write_archive
from tests.cluster.localkube.binaries import version_of
from tests.cluster.localkube.commands import LocalkubeError
from tests.cluster.localkube.pip_settings import build_secrets, parse_settings
from tests.cluster.localkube.record import Record, started_ticks

pytestmark = pytest.mark.cluster


def test_no_address_is_in_two_slots_or_outside_of_the_test_range() -> None:
    networks = [addresses_of(slot) for slot in range(SLOTS)]
    for one, other in itertools.combinations(networks, 2):
        assert not one.whole.overlaps(other.whole)
    for each in networks:
        parts = (each.pods, each.services, each.link)
        assert all(part.subnet_of(each.whole) for part in parts)
        assert not any(one.overlaps(other) for one, other in itertools.combinations(parts, 2))
        assert each.whole.subnet_of(IPv4Network("198.18.0.0/15"))
        assert each.machine in each.link
        assert each.node in each.link


def test_environment_beats_files_among_pip_settings() -> None:
    listing = ":env:.index-url='https://b.example/simple'\nglobal.index-url='https://a.example/simple'\n"
    assert parse_settings(listing) == {"index-url": "https://b.example/simple"}


def test_pip_settings_of_folders_are_not_passed_on() -> None:
    assert parse_settings("global.find-links='/some/folder'\nglobal.timeout='60'\n") == {"timeout": "60"}


def test_several_indexes_stay_several(tmp_path: Path) -> None:
    settings = parse_settings("global.extra-index-url='https://a.example\\nhttps://b.example'\n")
    build_secrets(tmp_path, settings)
    assert "extra-index-url = https://a.example\n    https://b.example\n" in (tmp_path / "pip.conf").read_text()


def test_certificates_are_named_as_they_are_inside_the_build(tmp_path: Path) -> None:
    arguments = build_secrets(tmp_path, {"cert": "/elsewhere/ca.pem"})
    assert "--secret=id=ca-certificates,src=/elsewhere/ca.pem" in arguments
    assert "cert = /run/secrets/ca-certificates\n" in (tmp_path / "pip.conf").read_text()


def test_process_is_known_by_its_start_whatever_its_name(tmp_path: Path) -> None:
    program = tmp_path / "a) b (c"
    program.symlink_to("/bin/cat")
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        ticks = started_ticks(process.pid)
        assert ticks is not None
        assert ticks == started_ticks(process.pid)
        assert Record(process.pid, ticks, 0, "").alive()
        assert not Record(process.pid, ticks + 1, 0, "").alive()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
        assert not Record(process.pid, ticks, 0, "").alive()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"process": 1}'])
def test_damaged_record_is_no_record(tmp_path: Path, content: str) -> None:
    (tmp_path / "cluster.json").write_text(content)
    assert Record.read(tmp_path / "cluster.json") is None


def test_image_of_one_program_can_be_followed_from_its_index(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"content")
    stream = io.BytesIO()
    write_archive(stream, single_program_image("localhost/one:1", program), {})
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:

        def read(name: str) -> bytes:
            member = archive.extractfile(name)
            assert member is not None
            return member.read()

        def blob(descriptor: dict[str, str]) -> bytes:
            return read(f"blobs/{descriptor['digest'].replace(':', '/')}")

        (entry,) = json.loads(read("index.json"))["manifests"]
        manifest = json.loads(blob(entry))
        config = json.loads(blob(manifest["config"]))
        (layer,) = manifest["layers"]
        assert entry["annotations"]["io.containerd.image.name"] == "localhost/one:1"
        assert config["rootfs"]["diff_ids"] == [layer["digest"]]
        with tarfile.open(fileobj=io.BytesIO(blob(layer))) as files:
            assert files.getmember("program").mode == 0o755


def test_versions_come_from_the_go_module() -> None:
    assert version_of("k8s.io/kubernetes").startswith("v1.")
    with pytest.raises(LocalkubeError, match="requires no module"):
        version_of("example.com/absent")
