from pathlib import Path
from typing import Any

import pytest

from predictord.config_file import plain, read_entry, read_file
from predictord.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("lr=1e-4", "lr", 1e-4),
        ("n=3", "n", 3),
        ("on=true", "on", True),
        ("none=null", "none", None),
        ('s="3"', "s", "3"),
        ("s=plain text", "s", "plain text"),
        ("s=a=b", "s", "a=b"),
        ("s=", "s", ""),
        ("s=NaN", "s", "NaN"),
        ("s=[1,", "s", "[1,"),
        ('d={"a": [1]}', "d", {"a": [1]}),
        (" spaced =1", "spaced", 1),
    ],
)
def test_an_entry_is_json_or_else_text(text: str, key: str, value: Any) -> None:
    assert read_entry(text, "--config") == (key, value)


@pytest.mark.parametrize("text", ["", "key", "=value", " =1"])
def test_an_entry_needs_a_key_and_an_equals_sign(text: str) -> None:
    with pytest.raises(SettingsError, match=f"^--config must be KEY=VALUE, not '{text}'$"):
        read_entry(text, "--config")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "a: 1\nb: [x, y]"),
        ("c.yml", "{a: 1, b: [x, y]}"),
        ("c.JSON", '\ufeff{"a": 1, "b": ["x", "y"]}'),
        ("c.toml", 'a = 1\nb = ["x", "y"]'),
    ],
)
def test_the_suffix_tells_the_format(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_file(tmp_path / name, "--config-file") == {"a": 1, "b": ["x", "y"]}


def test_an_empty_yaml_file_is_an_empty_config(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("# nothing yet\n")
    assert read_file(tmp_path / "c.yaml", "--config-file") == {}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("c.ini", b"", "must be a .yaml, .yml, .json or .toml file, not '{path}'"),
        ("c.yaml", b"a: 1\nb: [", "must be a valid .yaml file, not '{path}': "),
        ("c.yaml", b"a: !!python/name:os.system", "must be a valid .yaml file, not '{path}': "),
        ("c.yaml", b"a: \xff", "must be a valid .yaml file, not '{path}': "),
        ("c.json", b"", "must be a valid .json file, not '{path}': "),
        ("c.json", b'{"a": NaN}', "must be a valid .json file, not '{path}': NaN"),
        ("c.json", b"[" * 100_000, "must be a valid .json file, not '{path}': "),
        ("c.json", b"[1]", "must be a file that holds a mapping, not '{path}' with a list at the top"),
        ("c.yaml", b"text", "must be a file that holds a mapping, not '{path}' with a str at the top"),
        ("c.toml", b"a = ", "must be a valid .toml file, not '{path}': "),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_file(path, "--config-file")
    assert str(caught.value).startswith(f"--config-file {reason.format(path=path)}")
    assert "\n" not in str(caught.value)


def test_a_broken_yaml_file_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: 1\nb: 2: 3\n")
    with pytest.raises(SettingsError, match=r"mapping values are not allowed here \(line 2\)$"):
        read_file(tmp_path / "c.yaml", "--config-file")


def test_a_missing_file_and_a_folder_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"must be a file that can be read, .*: No such file or directory$"):
        read_file(tmp_path / "c.json", "--config-file")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(SettingsError, match=r"must be a file that can be read, .*: Is a directory$"):
        read_file(tmp_path / "folder.json", "--config-file")


def test_dates_become_text_and_all_else_stays(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("day = 2026-11-23\nat = 2026-11-23T10:00:00Z\nhour = 10:00:00\nn = [1, 2.5, true]")
    assert plain(read_file(tmp_path / "c.toml", "x"), "x") == {
        "day": "2026-11-23",
        "at": "2026-11-23T10:00:00+00:00",
        "hour": "10:00:00",
        "n": [1, 2.5, True],
    }


def deep() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["itself"] = value
    return value


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"a": [{"b": {1}}]}, "c.yaml: config.a[0].b must be something JSON can hold, not a set"),
        ({"a": b"x"}, "c.yaml: config.a must be something JSON can hold, not a bytes"),
        ({"a": {1: 2}}, "c.yaml: the keys of config.a must be text, not 1"),
        ({"a": 1 << 64}, "c.yaml: config.a must fit 64 bits, not 18446744073709551616"),
        ({"a": "\ud800"}, "c.yaml: config.a must be valid Unicode, not '\\ud800'"),
        (deep(), "c.yaml: config must be nested at most 100 deep"),
    ],
)
def test_a_config_holds_what_json_can_hold(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        plain(config, "c.yaml")
    assert str(caught.value) == sentence
