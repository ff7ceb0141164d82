"""``mobilesam weights`` against honest and lying servers, kills, crowds and full disks."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from mobilesam import ConfigError, DeadlineError, OutputError, WeightsError, WeightsWarning, load
from mobilesam.cli.main import run
from mobilesam.cli.progress import describe
from mobilesam.weights import (
    ALIASES,
    ENTRIES,
    average_weights,
    entry_of,
    read_tensors,
    read_weights,
    store,
    weights_path,
)
from mobilesam.weights.transfer import TransferError, check_address
from tests.known_weights import CONTENT, KNOWN, names_in
from tests.lying_server import PIECE, PIECE_SECONDS, Server, serving

MAX_CHARACTERS = 200
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
SLOW_SECONDS = len(CONTENT) / PIECE * PIECE_SECONDS


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(CONTENT) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in the cache that belongs to the file that is served."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("MOBILESAM_HOME", str(tmp_path / "Bücher 家"))
    return tmp_path / "Bücher 家" / KNOWN.sha256[:12]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENTRIES, KNOWN.name, KNOWN)


def pull_from(server: Server, way: str, monkeypatch: pytest.MonkeyPatch, **options: object) -> Path:
    monkeypatch.setenv("MOBILESAM_WEIGHTS_URL", server.address(way))
    return store.pull(KNOWN, **options)


def command(*arguments: str, **variables: str) -> subprocess.Popen:
    """Start the command line in a process of its own."""
    line = [sys.executable, "-m", "tests.known_weights", *arguments]
    return subprocess.Popen(
        line,
        cwd=Path(__file__).parents[2],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def part_of(home: Path) -> Path:
    return home / f".{KNOWN.file}.part"


HONEST = {  # row and way of serving: at most so many times the file's size is sent
    "W44 honest": 1.0,  # the cache is not there yet
    "W36 without_length": 1.0,
    "W36 chunked": 0.0,  # not counted there
    "W38 moved": 1.0,
    "W34 busy_once": 1.0,
    "W35 cut_once": 1.1,
    "W35 cut_at_thirds": 1.1,
    "W35 dripping": 1.0,
    "W37 cut_then_without_range": 1.6,
    "W37 cut_then_elsewhere": 2.6,
    "W37 cut_then_changed": 2.1,
}


@pytest.mark.parametrize("row", HONEST, ids=str)
def test_pull(server: Server, home: Path, monkeypatch, row: str) -> None:
    way = row.partition(" ")[2]
    seen: list[tuple[int, int]] = []
    path = pull_from(server, way, monkeypatch, report=lambda *progress: seen.append(progress))
    assert path == home / KNOWN.file
    assert path.read_bytes() == CONTENT
    assert names_in(home) == [KNOWN.file]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert server.sent <= HONEST[row] * len(CONTENT)
    before = len(server.requests)
    assert pull_from(server, way, monkeypatch) == path
    assert len(server.requests) == before


LYING = {
    "W36 short": "sends [0-9,]+ bytes, the published file has [0-9,]+;",
    "W36 long": "sends [0-9,]+ bytes, the published file has [0-9,]+;",
    "W36 short_without_length": "sends another file|the connection was cut after",
    "W42 endless": "sends another file",
    "W32_W51 wrong": "sends another file",
    "W33 page": "sends a web page",
    "W33 page_as_file": "sends a web page",
    "W34 missing": "404 Not Found",
    "W34 forbidden": "403 Forbidden",
    "W34 down": "503 Service Unavailable",
    "W35 silent": "the server sent nothing for 0.2 s",
    "W34 nonsense": "the connection was cut",
    "W38 loop": "redirects without end",
    "W38 to_http": "redirects to http://example.invalid; only https is used",
    "W38 to_file": "redirects to file://; only https is used",
    "W38 to_nowhere": "no connection",
}


@pytest.mark.parametrize("row", LYING, ids=str)
def test_what_a_server_may_do_wrong(server: Server, home: Path, monkeypatch, row: str) -> None:
    way = row.partition(" ")[2]
    monkeypatch.setattr("mobilesam.weights.transfer.MAX_WAIT", 0.01)
    kind = DeadlineError if way == "silent" else WeightsError
    with pytest.raises(kind, match=LYING[row]) as caught:
        pull_from(server, way, monkeypatch, timeout=0.2 if way == "silent" else store.TIMEOUT)
    message = str(caught.value)
    assert message.startswith("known: not fetched: 127.0.0.1:")
    assert message.endswith("get known.safetensors elsewhere and run: mobilesam weights import FILE")
    assert "\n" not in message
    assert len(message) <= MAX_CHARACTERS + len("known.safetensors")
    assert not (home / KNOWN.file).exists()
    assert pull_from(server, "honest", monkeypatch).read_bytes() == CONTENT
    assert names_in(home) == [KNOWN.file]


def test_W35_a_server_that_falls_silent_ends_as_out_of_time(server: Server, home: Path, capsys) -> None:
    """Silence after some bytes is followed by a second try from there; silence from the start by none."""
    variables = {"MOBILESAM_WEIGHTS_URL": server.address("silent_at_half")}
    process = command("weights", "pull", "known", "--timeout", "0.3", **variables)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 8, told
    assert "error[T]: known: not fetched: 127.0.0.1:" in told
    assert "the server sent nothing for 0.3 s; get known.safetensors elsewhere" in told
    half = len(CONTENT) // 2
    assert [asked for _, asked in server.requests] == ["", f"bytes={half}-"]
    assert part_of(home).read_bytes() == CONTENT[:half]
    silent_and_missing = replace(
        KNOWN, urls=tuple(f"{server.address(way)}/known.safetensors" for way in ("silent", "missing"))
    )
    with pytest.raises(WeightsError, match=r"nothing for 0\.2 s; .*404"):
        store.pull(silent_and_missing, timeout=0.2)


def test_mirrors_are_tried_in_turn(server: Server, home: Path) -> None:
    ways = ("missing", "page", "wrong", "honest", "short")
    entry = replace(KNOWN, urls=tuple(f"{server.address(way)}/known.safetensors" for way in ways))
    told: list[str] = []
    assert store.pull(entry, remark=told.append).read_bytes() == CONTENT
    assert [way for way, _ in server.requests] == list(ways[:4])
    assert len(told) == 4
    store.remove(entry)
    with pytest.raises(WeightsError) as caught:
        store.pull(replace(entry, urls=entry.urls[:3] + entry.urls[4:]))
    for reason in ("404", "a web page", "another file", "the published file has"):
        assert reason in str(caught.value)


def test_a_rounded_size_is_no_reason_to_refuse(server: Server, home: Path, monkeypatch) -> None:
    for way in ("without_length", "cut_once", "honest"):
        monkeypatch.setenv("MOBILESAM_WEIGHTS_URL", server.address(way))
        entry = replace(KNOWN, size=len(CONTENT) * 3 // 4, rounded=True)
        assert store.pull(entry).read_bytes() == CONTENT
        store.remove(entry)
    with pytest.raises(WeightsError, match="bytes, the published file has about 2,000,000"):
        store.pull(replace(KNOWN, size=2_000_000, rounded=True))


def test_W50_a_damaged_file_is_replaced_and_a_whole_part_is_used(
    server: Server, home: Path, monkeypatch
) -> None:
    home.mkdir(parents=True)
    (home / KNOWN.file).write_bytes(CONTENT[:-1] + b"x")
    assert pull_from(server, "honest", monkeypatch).read_bytes() == CONTENT
    (home / KNOWN.file).rename(part_of(home))
    (home / ".0123456789abcdef.mobilesam.tmp").write_bytes(b"of a killed import")
    (home / "mine.pt").write_bytes(b"a user's")
    before = len(server.requests)
    assert pull_from(server, "honest", monkeypatch).read_bytes() == CONTENT
    assert len(server.requests) == before
    assert names_in(home) == [KNOWN.file, "mine.pt"]


def test_W50_what_fails_leaves_no_empty_folder(server: Server, home: Path, monkeypatch) -> None:
    with pytest.raises(WeightsError, match="not fetched"):
        pull_from(server, "missing", monkeypatch)
    assert not home.parent.exists()
    home.parent.mkdir()
    with pytest.raises(WeightsError, match="not fetched"):
        pull_from(server, "missing", monkeypatch)
    assert names_in(home.parent) == []  # which was there before


@pytest.mark.parametrize(
    ("url", "origin", "allowed"),
    [
        ("https://example.com/a", "", True),
        ("http://127.0.0.1:80/a", "", True),
        ("http://localhost/a", "", True),
        ("http://[::1]/a", "", True),
        ("https://example.com/a", "https://example.org/b", True),
        ("http://127.0.0.1/a", "http://localhost/b", True),
        ("http://example.com/a", "", False),
        ("http://127.0.0.1.example.com/a", "", False),
        ("ftp://example.com/a", "", False),
        ("file:///etc/passwd", "", False),
        ("http://example.com/a", "https://example.com/b", False),
        ("http://127.0.0.1/a", "https://example.com/b", False),
        ("https://localhost/a", "https://example.com/b", False),
        ("file:///etc/passwd", "http://127.0.0.1/b", False),
        ("", "", False),
    ],
)
def test_W38_only_https_and_this_machine(url: str, origin: str, allowed: bool) -> None:
    if allowed:
        check_address(url, origin)
    else:
        with pytest.raises(TransferError, match="only https is used"):
            check_address(url, origin)


def test_W54_the_umask_says_who_may_read(server: Server, home: Path, monkeypatch) -> None:
    before = os.umask(0o077)
    try:
        assert pull_from(server, "honest", monkeypatch).stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_W54_a_folder_that_hands_its_group_on(server: Server, home: Path, monkeypatch) -> None:
    home.mkdir(parents=True)
    groups = [0, 12345] if os.geteuid() == 0 else os.getgroups()
    os.chown(home, -1, groups[-1])
    home.chmod(0o2755)
    assert pull_from(server, "honest", monkeypatch).stat().st_gid == groups[-1]


def test_W41_networks_that_are_not_there(home: Path, monkeypatch, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"example\.invalid: no network, or its name is not known"):
        store.pull(KNOWN)
    with serving(CONTENT) as server:
        gone = server.address("honest")
    monkeypatch.setenv("MOBILESAM_WEIGHTS_URL", gone)
    with pytest.raises(WeightsError, match="the server refused the connection"):
        store.pull(KNOWN)
    monkeypatch.setenv("MOBILESAM_OFFLINE", "1")
    monkeypatch.setattr("socket.getaddrinfo", lambda *address: pytest.fail("looked for a network"))
    with pytest.raises(WeightsError, match="not fetched: MOBILESAM_OFFLINE is set; get known"):
        store.pull(KNOWN)
    home.mkdir(parents=True, exist_ok=True)
    (home / KNOWN.file).write_bytes(CONTENT)
    assert store.pull(KNOWN) == home / KNOWN.file


def test_W40_proxies(server: Server, home: Path, monkeypatch) -> None:
    proxy = server.address("").rstrip("/")
    monkeypatch.setenv("https_proxy", proxy.replace("//", "//user:secret@"))
    with pytest.raises(WeightsError, match=r"the proxy 127\.0\.0\.1 refused \(403 Forbidden\)") as caught:
        store.pull(KNOWN)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match=r"the proxy 127\.0\.0\.1 refused the connection"):
        pull_from(server, "honest", monkeypatch)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert pull_from(server, "honest", monkeypatch).read_bytes() == CONTENT


def test_W39_a_certificate_that_nobody_vouches_for(home: Path, monkeypatch, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    line = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    subprocess.run([*line, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    certificate.write_bytes(key.read_bytes() + certificate.read_bytes())
    with serving(CONTENT, certificate) as server:
        monkeypatch.setenv("MOBILESAM_WEIGHTS_URL", server.address("honest", "https", "localhost"))
        with pytest.raises(WeightsError, match="its TLS certificate is not valid"):
            store.pull(KNOWN)
    with serving(CONTENT) as server:
        monkeypatch.setenv("MOBILESAM_WEIGHTS_URL", server.address("honest", "https", "localhost"))
        with pytest.raises(WeightsError, match="no secure connection"):
            store.pull(KNOWN)
    assert names_in(home) == []


# ---------------------------------------------------------------- the commands


def test_commands_from_fetching_to_removing(server: Server, home: Path, tmp_path: Path) -> None:
    variables = {"MOBILESAM_WEIGHTS_URL": server.address("honest")}
    for arguments, code, out, err in [
        (("path", "known"), 0, rf"{home}/known\.safetensors", ""),
        (("verify", "known"), 4, "", r"error\[W\]: .*: not found; run: mobilesam weights pull known"),
        (("remove", "known"), 4, "", "there is nothing to remove"),
        (("pull", "known"), 0, rf"{home}/known\.safetensors", r"known: \d+\.\d MB from http.*\n.*\d+\.\d MB are here, checked"),
        (("pull", "known"), 0, rf"{home}/known\.safetensors", ""),
        (("list",), 0, r"known +\d+ MB +here +CC BY", ""),
        (("verify",), 0, r"(.*: is the published file\n){2}", ""),
        (("remove", "known"), 0, r"removed .*known\.safetensors", ""),
        (("remove", "pocket"), 2, "", "is part of the package"),
        (("pull", "pocket"), 0, r"pocket-\d+\.safetensors", ""),
        (("pull", "object_aware_model"), 2, "", "AGPL-3.0"),
        (("pull", "nothing"), 2, "", "unknown; choose pocket, mobile_sam or"),
    ]:  # fmt: skip
        process = command("weights", *arguments, **variables)
        told, remarks = process.communicate(timeout=60)
        assert process.returncode == code, remarks
        assert re.fullmatch(rf"(?s).*{out}.*", told), told
        assert re.search(err, remarks) if err else not remarks, remarks
        assert "\r" not in remarks
    assert names_in(home) == []


def test_import_recognises_a_file_by_its_sum(home: Path, tmp_path: Path, registered: None, capsys) -> None:
    (tmp_path / "download(1).bin").write_bytes(CONTENT)
    # The package's own file has the same sum, and comes first in the registry.
    pocket = ENTRIES.pop(ALIASES["pocket"])
    try:
        assert run(["weights", "import", str(tmp_path / "download(1).bin")]) == 0
    finally:
        ENTRIES[pocket.name] = pocket
    assert (home / KNOWN.file).read_bytes() == CONTENT
    assert names_in(home) == [KNOWN.file]
    assert run(["weights", "import", str(tmp_path / "download(1).bin")]) == 0
    (tmp_path / "other.pt").write_bytes(CONTENT[:-1])
    assert run(["weights", "import", str(tmp_path / "other.pt")]) == 4
    assert "its SHA-256 is not that of a published file" in capsys.readouterr().err
    assert run(["weights", "import", str(tmp_path / "none.pt")]) == 4
    assert run(["weights", "import", str(tmp_path)]) == 4


def test_W41_W55_loading_never_fetches_and_checks_again(
    server: Server, home: Path, monkeypatch, registered: None
) -> None:
    monkeypatch.setenv("MOBILESAM_WEIGHTS_URL", server.address("honest"))
    with pytest.raises(WeightsError, match="not found; run: mobilesam weights pull known"):
        load("known")
    assert server.requests == []
    store.pull(KNOWN)
    assert load("known").name == "known"
    (home / KNOWN.file).write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(WeightsError, match="is not the published file"):
        load("known")
    assert run(["weights", "verify"]) == 4


def test_a_folder_of_the_users_comes_first_and_is_only_read(
    server: Server, home: Path, tmp_path: Path, monkeypatch, registered: None
) -> None:
    folder = tmp_path / "offline"
    folder.mkdir()
    (folder / KNOWN.file).write_bytes(CONTENT)
    monkeypatch.setenv("MOBILESAM_OFFLINE_DIR", str(folder))
    assert store.pull(KNOWN) == weights_path(KNOWN) == folder / KNOWN.file
    assert load("known").name == "known"
    with pytest.raises(WeightsError, match="nothing to remove"):
        store.remove(KNOWN)
    (folder / KNOWN.file).write_bytes(b"")
    with pytest.raises(WeightsError, match="MOBILESAM_OFFLINE_DIR names this folder; put the published"):
        pull_from(server, "honest", monkeypatch)
    (folder / KNOWN.file).unlink()
    assert pull_from(server, "honest", monkeypatch) == home / KNOWN.file
    assert names_in(folder) == []


def test_W51_W53_registry() -> None:
    for entry in ENTRIES.values():
        assert len(entry.sha256) == 64 or len(entry.git_blob) == 40
        assert "/" not in entry.file and not entry.file.startswith(".")
        assert entry.licence and entry.about
        assert entry.shipped or entry.size > 10**6
        for url in entry.urls:
            check_address(url)
            assert url.endswith((entry.file, "/model.safetensors"))  # the latter is what Hugging Face has
    assert len({entry.file.lower() for entry in ENTRIES.values()}) == len(ENTRIES)
    assert (
        max(len(entry.file.encode()) for entry in ENTRIES.values()) <= 100
    )  # room for what is put around it
    assert entry_of("vit_h").checksum.startswith("SHA-256: a7bf3b02")
    with pytest.raises(ConfigError, match="unknown"):
        entry_of("vit_x")


@pytest.mark.parametrize(
    "file", ["../known.pt", "/etc/known.pt", "a/known.pt", "a\\known.pt", "..", ".known", ""]
)
def test_W52_a_name_in_the_registry_that_leads_elsewhere(file: str) -> None:
    with pytest.raises(WeightsError, match="must be a plain name"):
        replace(KNOWN, file=file)


def test_W53_import_of_a_file_with_the_longest_name(home: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(ENTRIES, ALIASES["pocket"], KNOWN)
    (tmp_path / ("家" * 85)).write_bytes(CONTENT)
    assert store.import_file(tmp_path / ("家" * 85)) == (KNOWN, home / KNOWN.file)


def test_W64_two_versions_of_a_name_lie_side_by_side(server: Server, home: Path, monkeypatch) -> None:
    later = replace(KNOWN, sha256=hashlib.sha256(CONTENT[::-1]).hexdigest())
    assert pull_from(server, "honest", monkeypatch).read_bytes() == CONTENT
    with serving(CONTENT[::-1]) as other:
        monkeypatch.setenv("MOBILESAM_WEIGHTS_URL", other.address("honest"))
        path = store.pull(later)
    assert path.name == KNOWN.file
    assert path.read_bytes() == CONTENT[::-1]
    assert store.verify(KNOWN) == home / KNOWN.file
    store.remove(later)
    assert names_in(home.parent) == [home.name]


def test_the_line_of_a_transfer() -> None:
    assert describe("a", 0, 40_000_000, 0, 0) == "a: 0.0 of 40.0 MB"
    assert describe("a", 20_000_000, 40_000_000, 20_000_000, 4) == "a: 20.0 of 40.0 MB, 5.0 MB/s, 4 s left"
    assert describe("a", 5_000_000, 10**9, 5_000_000, 1) == "a: 5.0 of 1000.0 MB, 5.0 MB/s, 3 min 19 s left"


# ---------------------------------------------------------------- disks


def test_W44_a_cache_that_cannot_be_written(server: Server, home: Path, monkeypatch) -> None:
    home = home.parent
    home.write_bytes(b"a file")
    with pytest.raises(OutputError, match=r"cannot be written .*; set MOBILESAM_HOME to another folder"):
        pull_from(server, "honest", monkeypatch)
    home.unlink()
    home.symlink_to(home)
    with pytest.raises(OutputError, match="cannot be written"):
        pull_from(server, "honest", monkeypatch)
    assert server.requests == []


def test_W44_a_cache_that_others_may_write_to(server: Server, home: Path, monkeypatch) -> None:
    home.mkdir(parents=True)
    home.parent.chmod(0o777)
    with pytest.warns(
        WeightsWarning, match="everybody may write to this folder; run: chmod o-w, or set MOBILE"
    ):
        pull_from(server, "honest", monkeypatch)
    variables = {"MOBILESAM_WEIGHTS_URL": server.address("honest")}
    store_again = command("weights", "import", str(home / KNOWN.file), **variables)
    assert store_again.communicate(timeout=60)[1] == ""  # the package's own: nothing is written
    with pytest.warns(WeightsWarning):
        store.remove(KNOWN)
    process = command("weights", "pull", "known", **variables)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    warnings = [line for line in told.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        f"warning: {home.parent}: everybody may write to this folder; run: chmod o-w, "
        "or set MOBILESAM_HOME to another"
    ]
    home.parent.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(home, 12345, -1)
        with pytest.warns(WeightsWarning, match=r"this folder is another user's \(id 12345\), or set MOBILE"):
            store.remove(KNOWN)


def test_W44_a_link_that_somebody_laid_is_not_written_through(
    server: Server, home: Path, tmp_path: Path, monkeypatch
) -> None:
    home.mkdir(parents=True)
    (tmp_path / "precious").write_bytes(b"mine")
    for link in (part_of(home), home / f".{KNOWN.file}.lock"):
        link.symlink_to(tmp_path / "precious")
        with pytest.raises(OutputError, match="cannot be written"):
            pull_from(server, "honest", monkeypatch)
        link.unlink()
    assert (tmp_path / "precious").read_bytes() == b"mine"


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Keep even root, who may write to any folder, from writing to this one."""
    if os.geteuid():
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    bind = ["mount", "--bind", folder, folder]
    if subprocess.run(bind, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here, and root may write to any folder")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_W43_a_cache_that_is_only_read(server: Server, home: Path, monkeypatch, registered: None) -> None:
    home.mkdir(parents=True)
    with (
        read_only(home),
        pytest.raises(OutputError, match=r"cannot be written .*; set MOBILESAM_HOME to another"),
    ):
        pull_from(server, "honest", monkeypatch)
    assert server.requests == []
    (home / KNOWN.file).write_bytes(CONTENT)
    with read_only(home):
        assert pull_from(server, "honest", monkeypatch) == home / KNOWN.file
        assert load("known").name == "known"


def test_W49_the_holder_of_a_lock_is_killed(server: Server, home: Path) -> None:
    holder = command("weights", "pull", "known", MOBILESAM_WEIGHTS_URL=server.address("silent"))
    while not server.requests:
        time.sleep(0.01)
    waiting = command("weights", "pull", "known", MOBILESAM_WEIGHTS_URL=server.address("honest"))
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == "known: another process is at it; waiting\n"
    holder.kill()
    holder.communicate()
    _, told = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, told
    assert names_in(home) == [KNOWN.file]


def test_W45_a_file_that_may_not_grow_leaves_a_part_to_go_on_from(server: Server, home: Path) -> None:
    """A limit on the size of files stands in for a quota."""
    limit = len(CONTENT) // 2
    code = (
        f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
        "sys.argv = ['', 'weights', 'pull', 'known']; runpy.run_module('tests.known_weights', run_name='__main__')"
    )
    variables = os.environ | {"MOBILESAM_WEIGHTS_URL": server.address("honest")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 6, done.stderr
    assert "error[O]" in done.stderr
    assert names_in(home) == [part_of(home).name]
    assert part_of(home).read_bytes() == CONTENT[:limit]
    process = command("weights", "pull", "known", **variables)
    _, remarks = process.communicate(timeout=60)
    assert process.returncode == 0, remarks
    assert server.requests[-1] == ("honest", f"bytes={limit}-")
    assert names_in(home) == [KNOWN.file]


def test_W45_W46_a_full_disk_is_told_with_its_bytes(server: Server, tmp_path: Path, monkeypatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    small = f"size={len(CONTENT) * 2 // 3}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", small, "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        monkeypatch.setenv("MOBILESAM_HOME", str(disk / "home"))
        said = r"the disk is full \([0-9,]+ bytes free, [1-9][0-9,]+ needed\); free some space or set MOBILESAM_HOME"
        with pytest.raises(OutputError, match=said):
            pull_from(server, "honest", monkeypatch)
        assert server.requests == []  # told before the first byte
        (tmp_path / "got.bin").write_bytes(CONTENT)
        monkeypatch.setitem(ENTRIES, ALIASES["pocket"], KNOWN)
        with pytest.raises(OutputError, match=said):
            store.import_file(tmp_path / "got.bin")
        place = disk / "home" / KNOWN.sha256[:12]
        assert names_in(place) == []
        with pytest.raises(OutputError, match=said):  # the size is only known roughly: full half-way
            store.pull(replace(KNOWN, size=len(CONTENT) * 6 // 10, rounded=True))
        assert not (place / KNOWN.file).exists()
        subprocess.run(["mount", "-o", "remount,size=40m", disk], check=True)
        sent = server.sent
        assert pull_from(server, "honest", monkeypatch).read_bytes() == CONTENT
        assert server.sent - sent < len(CONTENT) / 2
    finally:
        subprocess.run(["umount", disk], check=True)


# ---------------------------------------------------------------- kills and crowds


def kill_and_go_on(server: Server, home: Path, kills: int) -> None:
    """Kill pulls at random moments: the name never has other bytes, and what arrived is kept."""
    rng = np.random.default_rng(int(os.environ.get("MOBILESAM_SEED", "0")))
    final, finished = home / KNOWN.file, 0
    for _ in range(kills):
        start, requests = time.monotonic(), len(server.requests)
        process = command("weights", "pull", "known", MOBILESAM_WEIGHTS_URL=server.address("slow"))
        while len(server.requests) == requests and process.poll() is None:
            time.sleep(0.005)  # until it has begun; then any moment up to after its end
        time.sleep(float(rng.uniform(0, 0.6 * SLOW_SECONDS)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert time.monotonic() - start < 60
        if final.exists():
            assert final.read_bytes() == CONTENT
            finished += 1
            final.unlink()
        elif part_of(home).exists():
            assert CONTENT.startswith(part_of(home).read_bytes())
    assert kills < 20 or 0 < finished < kills
    process = command("weights", "pull", "known", MOBILESAM_WEIGHTS_URL=server.address("honest"))
    _, remarks = process.communicate(timeout=60)
    assert process.returncode == 0, remarks
    assert final.read_bytes() == CONTENT
    assert names_in(home) == [KNOWN.file]


def eight_at_once(server: Server, home: Path, rounds: int) -> None:
    """Eight processes pull the same weights: one transfer, one file, nothing left."""
    for _ in range(rounds):
        requests = len(server.requests)
        processes = [
            command("weights", "pull", "known", MOBILESAM_WEIGHTS_URL=server.address("slow"))
            for _ in range(8)
        ]
        for process in processes:
            _, remarks = process.communicate(timeout=120)
            assert process.returncode == 0, remarks
        assert len(server.requests) == requests + 1
        assert (home / KNOWN.file).read_bytes() == CONTENT
        assert names_in(home) == [KNOWN.file]
        (home / KNOWN.file).unlink()


def test_W47_six_kills(server: Server, home: Path) -> None:
    kill_and_go_on(server, home, 6)


@pytest.mark.long
def test_W47_a_hundred_kills(server: Server, home: Path) -> None:
    kill_and_go_on(server, home, 100)


@pytest.mark.long
def test_W48_eight_processes_at_once(server: Server, home: Path) -> None:
    eight_at_once(server, home, 2)


@pytest.mark.long
def test_W48_eight_processes_at_once_a_hundred_times(server: Server, home: Path) -> None:
    eight_at_once(server, home, 100)


def test_W48_eight_threads_at_once(server: Server, home: Path, monkeypatch) -> None:
    monkeypatch.setenv("MOBILESAM_WEIGHTS_URL", server.address("slow"))
    remarks: list[str] = []
    threads = [
        threading.Thread(target=store.pull, args=(KNOWN,), kwargs={"remark": remarks.append})
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    while not (home / KNOWN.file).exists() and any(thread.is_alive() for thread in threads):
        time.sleep(0.001)
    assert (home / KNOWN.file).read_bytes() == CONTENT  # whole from the first moment that it has its name
    for thread in threads:
        thread.join(60)
    assert len(server.requests) == 1
    assert "known: another process is at it; waiting" in remarks
    assert names_in(home) == [KNOWN.file]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Weights of pocket's network that are a little larger than pocket's."""
    tensors = {
        name: np.asarray(t * 1.5).astype(t.dtype) for name, t in read_weights(entry_of("pocket")).items()
    }
    save_file(tensors, tmp_path / "own.safetensors")
    return tmp_path / "own.safetensors"


def test_an_average_lies_between_its_weights(own: Path, tmp_path: Path, capfd) -> None:
    out = tmp_path / "both.safetensors"
    command = ["weights", "average", "pocket", str(own), "--parts", "1,3", "--out", str(out)]
    assert run(command) == 0
    assert str(out) in capfd.readouterr().out
    pocket, both = read_weights(entry_of("pocket")), read_tensors(out)
    assert pocket.keys() == both.keys()
    for name, tensor in pocket.items():
        wanted = tensor * 1.375 if tensor.dtype.kind == "f" else tensor
        np.testing.assert_allclose(both[name], wanted, rtol=1e-5, atol=1e-7, err_msg=name)
    with safe_open(out, "np") as file:
        assert file.metadata()["averaged_from"] == "pocket 0.25, own.safetensors 0.75"
    assert load("pocket", checkpoint=out).name
    assert run(command) == 6
    assert "exists already; choose another place, or pass --overwrite to replace it" in capfd.readouterr().err
    assert run([*command, "--overwrite"]) == 0


def test_an_average_of_what_does_not_fit_is_refused(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "both.safetensors"
    for sources, parts, kind, message in (
        ([own], [], ConfigError, "1 given; an average needs at least two"),
        ([own, own], [1], ConfigError, "parts: 1 for 2 weights"),
        ([own, own], [1, 0], ConfigError, "parts: 1, 0; each must be above 0"),
        ([own, own], [1, float("nan")], ConfigError, "each must be above 0"),
        (["pocket", tmp_path / "none.pt"], [], WeightsError, r"none\.pt: not found"),
        (
            ["pocket", "detector_nano"],
            [],
            WeightsError,
            "detector_nano: holds an object detector, not pocket",
        ),
    ):
        with pytest.raises(kind, match=message):
            average_weights(sources, out, parts=parts)
        assert not out.exists()
    tensors = read_tensors(own)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"part\.safetensors: not the weights of this network: lacks"):
        average_weights([own, tmp_path / "part.safetensors"], out)
    assert run(["weights", "average", "pocket", str(own), "--parts", "1;3", "--out", str(out)]) == 2
