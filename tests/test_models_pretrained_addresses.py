"""Weights by name from an address: what is fetched, kept, fetched again and refused."""

import pytest
from named_weights import NAME, assert_equal_networks, break_file, made, put, root, world  # noqa: F401
from web import serve

from gluon_ran.models import (
    WeightsError,
    find_pretrained,
    get_model,
    list_pretrained,
)


@pytest.mark.parametrize("where", ["ftp://x/y", "http://", "https://x/y?z=1", "file://host/x"])
def test_addresses_of_other_kinds_are_refused(where):
    with pytest.raises(WeightsError, match="give a folder, or an address that begins with"):
        list_pretrained(where)


def test_an_address_is_asked_once(root, tmp_path):
    expected = get_model(NAME, pretrained=True, root=root)
    with serve(tmp_path) as server:
        address = f"{server.url}/weights/"
        assert list_pretrained(address) == []
        first = get_model(NAME, pretrained=True, root=address)
        assert server.asked == [f"/weights/{NAME}.json", f"/weights/{NAME}.params"]
        second = get_model(NAME, pretrained=True, root=address[:-1])
        assert len(server.asked) == 2
    assert_equal_networks(first, expected)
    assert_equal_networks(second, expected)
    assert list_pretrained(address) == [NAME]
    folder = find_pretrained(NAME, address).parent
    assert tmp_path / "mxnet" / "models" in folder.parents
    assert sorted(p.name for p in folder.iterdir()) == [".lock", f"{NAME}.json", f"{NAME}.params"]


def test_a_name_may_have_any_letters(root):
    name = "gr\u00fcn #1 a%20b?.v2"
    put(root, name)
    with serve(root) as server:
        whole = (root / f"{name}.params").read_bytes()
        assert find_pretrained(name, server.url).read_bytes() == whole


def test_an_address_may_have_any_letters(root, tmp_path):
    root.rename(tmp_path / "gr\u00fcn e")
    whole = (tmp_path / "gr\u00fcn e" / f"{NAME}.params").read_bytes()
    with serve(tmp_path) as server:
        for path in ("gr\u00fcn e", "gr%C3%BCn%20e"):
            assert find_pretrained(NAME, f"{server.url}/{path}/").read_bytes() == whole
        assert server.asked == [f"/gr%C3%BCn%20e/{NAME}.{end}" for end in ("json", "params")]


@pytest.mark.parametrize(
    "fault, told",
    [("lie", "SHA-256"), ("down", "answered 500"), ("gone", "no weights .* any more .*SHA-256")],
)
def test_what_an_address_fails_to_give_never_comes_from_elsewhere(root, tmp_path, fault, told):
    put(tmp_path / "package", NAME)
    with serve(root) as server:
        if fault == "lie":
            break_file(root / f"{NAME}.params", "flip")
        elif fault == "down":
            server.faults = [500] * 4
        else:
            break_file(find_pretrained(NAME, server.url), "flip")
            for path in root.iterdir():
                path.unlink()
        with pytest.raises(WeightsError, match=told):
            find_pretrained(NAME, server.url)


def test_two_addresses_are_two_folders(root, tmp_path):
    put(tmp_path / "other", NAME)
    with serve(tmp_path) as server:
        one, other = (find_pretrained(NAME, f"{server.url}/{f}") for f in ("weights", "other"))
    assert one.parent != other.parent and one.read_bytes() != other.read_bytes()


def test_what_the_address_lacks_is_looked_for_in_the_package(root, tmp_path):
    put(tmp_path / "package", "another")
    with serve(root) as server:
        assert find_pretrained("another", server.url).parent == tmp_path / "package"
        with pytest.raises(WeightsError, match="which can't be listed.* and the package"):
            find_pretrained("third", server.url)
        assert server.asked == ["/another.json", "/third.json"]


@pytest.mark.parametrize("damage", ["cut", "flip", "card", "bare", "alone"])
def test_a_damaged_download_is_named_and_repeated(root, damage, caplog):
    whole = (root / f"{NAME}.params").read_bytes()
    with serve(root) as server:
        weights = find_pretrained(NAME, server.url)
        break_file(weights, damage)
        assert find_pretrained(NAME, server.url).read_bytes() == whole
    assert "downloaded again" in caplog.text and str(weights.with_suffix("")) in caplog.text


def test_a_damaged_download_without_a_network_is_an_error(root):
    with serve(root) as server:
        weights = find_pretrained(NAME, server.url)
        break_file(weights, "flip")
    with pytest.raises(
        WeightsError, match="no connection.*check the network.*card of other weight"
    ):
        find_pretrained(NAME, server.url)


def test_breaks_of_a_download_are_mended(root):
    whole = (root / f"{NAME}.params").read_bytes()
    with serve(root) as server:
        server.faults = [503, b'{"sha256"', None, whole[:1000]]
        assert find_pretrained(NAME, server.url).read_bytes() == whole
        kinds = [path.rpartition(".")[2] for path in server.asked]
        assert kinds == ["json", "json", "json", "params", "params"]


def test_a_server_that_lies_is_refused(root):
    with serve(root) as server:
        server.faults = [None, *[b"?" * 100] * 4]
        with pytest.raises(WeightsError, match="connection ended after 100 of 101 bytes"):
            find_pretrained(NAME, server.url)
        break_file(root / f"{NAME}.params", "flip")
        with pytest.raises(WeightsError, match="does not have the SHA-256"):
            find_pretrained(NAME, server.url)
        (root / f"{NAME}.json").write_text("<html>not found</html>")
        with pytest.raises(WeightsError, match="is no card of weights .*check the address"):
            find_pretrained(NAME, server.url)
        server.faults = [500] * 4
        with pytest.raises(WeightsError, match="answered 500"):
            find_pretrained(NAME, server.url)


def test_a_cache_that_cannot_be_written_is_named(root, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "file"))
    with serve(root) as server, pytest.raises(WeightsError, match="set MXNET_HOME"):
        find_pretrained(NAME, server.url)
