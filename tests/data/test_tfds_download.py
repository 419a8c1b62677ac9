"""CIFAR through TFDS without a network, or with one that hangs, refuses or breaks: told soon."""

import socket
import time

import pytest

from craft_jax.data import tfds
from tests.data.archives import cifar_archive
from tests.data.loaded import LOAD, fails, run_python


def test_tfds_without_network_fails_fast_through_a_proxy_that_does_not_answer(tmp_path):
    # The proxy is an address nobody has, so that this holds with and without a network.
    proxies = dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://192.0.2.1:9")
    result = run_python(LOAD.format(directory=str(tmp_path)), **proxies, no_proxy="", NO_PROXY="")
    assert result.returncode == 0, result.stderr
    message, seconds, _ = result.stdout.rsplit("\n", 3)[:3]
    assert float(seconds.split()[1]) < 10
    check_ways_out(message, tmp_path, "cifar10")
    assert list(tmp_path.iterdir()) == []


def check_ways_out(message, directory, name):
    for part in (str(directory), name, "--config.data.dir=DIR", "a network", ":digits", "dataset_info.json"):
        assert part in message


def hang(*args, **kwargs):
    time.sleep(3)
    raise OSError("at last")


def test_tfds_probe_is_bounded_where_a_name_lookup_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    start = time.monotonic()
    message = fails("cifar100", tmp_path)
    assert time.monotonic() - start < 2.5
    check_ways_out(message, tmp_path, "cifar100")
    assert "within 0.3 s" in message
    assert list(tmp_path.iterdir()) == []


def test_tfds_probe_takes_refusals_and_answers(served, monkeypatch):
    folder, address = served
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (folder / "there").write_text("yes")
    assert tfds._unreachable(f"{address}/there", 5) is None
    assert "404" in tfds._unreachable(f"{address}/absent", 5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "refused" in tfds._unreachable(f"http://127.0.0.1:{port}/", 5)


def test_tfds_probe_goes_through_the_proxy(served, monkeypatch):
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("http_proxy", served[1])
    # Nobody but the proxy could answer for this name.
    assert "404" in tfds._unreachable("http://host.invalid/absent", 5)


@pytest.mark.parametrize("new_directory", [False, True])
def test_tfds_download_that_breaks_leaves_nothing_behind(served, tmp_path, monkeypatch, new_directory):
    import tensorflow_datasets

    folder, address = served
    archive, _ = cifar_archive("cifar10")
    (folder / "broken.tar.gz").write_bytes(archive[: len(archive) // 2])
    facts = tfds.SETS["cifar10"]._replace(url=f"{address}/broken.tar.gz")
    monkeypatch.setitem(tfds.SETS, "cifar10", facts)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    root = tmp_path / "new" if new_directory else tmp_path
    monkeypatch.setattr(tensorflow_datasets.core.constants, "DATA_DIR", str(root))
    message = fails("cifar10", "")
    check_ways_out(message, root, "cifar10")
    assert "failed" in message
    assert list(tmp_path.iterdir()) == []
