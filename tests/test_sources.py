import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from predictord.errors import SettingsError
from predictord.settings import Settings
from predictord.sources import locate_predictor, read_settings, unknown_variables

COUNT = "a whole number, from"
DURATION = "a duration such as 90s, 10m or 5ms, from 0s to"
SIZE = "a size such as 1048576 or 100MiB, from 1B to 1TiB"
HOST = "a host name or address without scheme or port"
ORIGIN = "an origin such as https://app.example:8443"
DEVICES = "auto, cpu, or a comma list of GPU indices and GPU or MIG UUIDs"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "predictor.py").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(toml: str = "", environment: Any = None, **flags: Any) -> Settings:
    if toml:
        Path("predictord.toml").write_text(toml)
    return read_settings("predictor.py", flags, environment or {})


def error_of(action: Callable[..., Any], *arguments: Any, **keywords: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        action(*arguments, **keywords)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "text", "attribute", "value"),
    [
        ("port", "0", "port", 0),
        ("host", "[::1]", "host", "::1"),
        ("host", "LocalHost", "host", "localhost"),
        ("max_body_size", "64k", "max_body_bytes", 65536),
        ("startup_timeout", "10m", "startup_timeout_s", 600.0),
        ("request_timeout", "0", "request_timeout_s", 0.0),
        ("batch_interval", "5ms", "batch_interval_s", 0.005),
        ("concurrency", "4", "concurrency", 4),
        ("devices", "0, GPU-8f3c", "devices", "0,GPU-8f3c"),
        ("devices", "cpu", "devices", "cpu"),
        ("log_format", "json", "log_format", "json"),
        ("debug", "off", "debug", False),
        ("reload", "0", "reload", False),
        ("reload_mode", "in-turn", "reload_mode", "in-turn"),
        ("watch", "/a/prompt.txt,/b", "watch", (Path("/a/prompt.txt"), Path("/b"))),
        ("allow_host", "Box.example,10.0.0.5", "allow_host", ("box.example", "10.0.0.5")),
        ("allow_origin", "https://App.example", "allow_origin", ("https://app.example",)),
    ],
)
def test_text_means_the_same_in_flag_variable_and_file(key: str, text: str, attribute: str, value: Any) -> None:
    by_flag = read(**{key: text})
    by_variable = read(environment={f"PREDICTORD_{key.upper()}": text})
    by_file = read(toml=f'{key} = "{text}"')
    assert [getattr(settings, attribute) for settings in (by_flag, by_variable, by_file)] == [value] * 3


def test_toml_has_its_own_types() -> None:
    settings = read("""
        port = 1
        startup_timeout = 2.5
        reload = false
        max_body_size = 3
        devices = [0, "MIG-1"]
        allow_host = ["a", "b"]
    """)
    assert (settings.port, settings.startup_timeout_s, settings.reload, settings.max_body_bytes) == (1, 2.5, False, 3)
    assert (settings.devices, settings.allow_host) == ("0,MIG-1", ("a", "b"))


@pytest.mark.parametrize(
    ("flag", "variable", "toml", "expected"),
    [
        ("1", "2", "3", 1),
        (None, "2", "3", 2),
        (None, "", "3", 3),
        (None, None, "3", 3),
        (None, None, None, 8000),
        ("1", None, None, 1),
    ],
)
def test_flags_win_over_variables_over_the_file_over_defaults(
    flag: str | None, variable: str | None, toml: str | None, expected: int
) -> None:
    environment = {} if variable is None else {"PREDICTORD_PORT": variable}
    assert read(f"port = {toml}" if toml else "", environment, port=flag).port == expected


def test_flags_that_were_not_given_count_for_nothing() -> None:
    assert read(environment={"PREDICTORD_ALLOW_HOST": "a"}, allow_host=(), reload=None).allow_host == ("a",)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("port", "70000", f"{COUNT} 0 to 65535"),
        ("port", "-1", f"{COUNT} 0 to 65535"),
        ("port", "http", f"{COUNT} 0 to 65535"),
        ("port", "9" * 5000, f"{COUNT} 0 to 65535"),
        ("workers_per_device", "0", f"{COUNT} 1 to 64"),
        ("concurrency", "1.5", f"{COUNT} 1 to 1024"),
        ("max_batch_size", "0", f"{COUNT} 1 to 65536"),
        ("max_queue", "", f"{COUNT} 0 to 1000000"),
        ("max_body_size", "5 parsecs", SIZE),
        ("max_body_size", "0", SIZE),
        ("startup_timeout", "soon", f"{DURATION} 365d"),
        ("drain_timeout", "-3", f"{DURATION} 365d"),
        ("batch_interval", "2h", f"{DURATION} 1h"),
        ("host", "http://localhost", HOST),
        ("host", "localhost:80", HOST),
        ("host", "", HOST),
        ("host", "a b", HOST),
        ("devices", "gpu", DEVICES),
        ("devices", "0,,1", DEVICES),
        ("devices", "auto,0", DEVICES),
        ("log_format", "xml", "auto, pretty, plain or json"),
    ],
)
def test_wrong_text_is_one_sentence_wherever_it_stands(key: str, value: str, allowed: str) -> None:
    shown = repr(value) if len(value) < 70 else repr(value)[:77] + "..."
    flag, variable = f"--{key.replace('_', '-')}", f"PREDICTORD_{key.upper()}"
    assert error_of(read, **{key: value}) == f"{flag} must be {allowed}, not {shown}"
    if value:  # an empty variable counts as unset
        assert error_of(read, environment={variable: value}) == f"{variable} must be {allowed}, not {shown}"
    assert error_of(read, toml=f'{key} = "{value}"') == f"predictord.toml: {key} must be {allowed}, not {shown}"


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ("port = true", f"predictord.toml: port must be {COUNT} 0 to 65535, not true"),
        ("port = 3.0", f"predictord.toml: port must be {COUNT} 0 to 65535, not 3.0"),
        ("port = [1]", f"predictord.toml: port must be {COUNT} 0 to 65535, not [1]"),
        ("drain_timeout = inf", f"predictord.toml: drain_timeout must be {DURATION} 365d, not Infinity"),
        ("drain_timeout = true", f"predictord.toml: drain_timeout must be {DURATION} 365d, not true"),
        ("drain_timeout = []", f"predictord.toml: drain_timeout must be {DURATION} 365d, not []"),
        ("debug = 1", "predictord.toml: debug must be true or false, not 1"),
        ("host = 1979-05-27", f'predictord.toml: host must be {HOST}, not "1979-05-27"'),
        ("devices = true", f"predictord.toml: devices must be {DEVICES}, not true"),
        ("devices = []", f"predictord.toml: devices must be {DEVICES}, not []"),
        ("log_format = []", "predictord.toml: log_format must be auto, pretty, plain or json, not []"),
        ("allow_host = 3", f"predictord.toml: allow_host must be {HOST}, not 3"),
        ('allow_host = ["ok", "*.evil"]', f"predictord.toml: allow_host must be {HOST}, not '*.evil'"),
        ('allow_origin = ["https://a/path"]', f"predictord.toml: allow_origin must be {ORIGIN}, not 'https://a/path'"),
        ('allow_origin = "null"', f"predictord.toml: allow_origin must be {ORIGIN}, not 'null'"),
        ("config = 3", "predictord.toml: config must be a table, [config], not 3"),
        ("config_file = 3", "predictord.toml: config_file must be the path of a file, not 3"),
        ("token_file = 3", "predictord.toml: token_file must be a text file with a token, not 3"),
        ("prot = 3", "predictord.toml has 'prot', which is no setting; the nearest is 'port'"),
        ("max-queue = 3", "predictord.toml has 'max-queue', which is no setting; the nearest is 'max_queue'"),
        ('token = "x"', "predictord.toml has 'token', which is no setting; the nearest is 'token_file'"),
    ],
)
def test_wrong_toml_is_one_sentence(toml: str, sentence: str) -> None:
    assert error_of(read, toml=toml) == sentence


def test_toml_that_does_not_parse_names_the_line(folder: Path) -> None:
    sentence = error_of(read, toml="port = 1\nhost = \n")
    assert sentence.startswith(f"predictord.toml must be a valid .toml file, not '{folder}/predictord.toml': ")
    assert "line 2" in sentence


def test_the_file_stands_beside_the_predictor_and_not_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "predictord.toml").write_text("port = 1\n")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert read_settings("../predictor.py", {}, {}).port == 1


def test_a_linked_predictor_keeps_its_link_and_has_its_file_where_it_really_is(folder: Path) -> None:
    real = folder / "real"
    real.mkdir()
    (real / "model.py").write_text("")
    (real / "predictord.toml").write_text("port = 1\n")
    (folder / "link.py").symlink_to(real / "model.py")
    settings = read_settings("link.py", {}, {})
    assert (settings.predictor_path, settings.port) == (folder / "link.py", 1)


def test_config_merges_entries_over_the_file_over_the_table() -> None:
    Path("config.yaml").write_text("from: file\nfile: 1\nentry: file\n")
    toml = 'config_file = "config.yaml"\n[config]\nfrom = "table"\ntable = 2\n'
    assert read(toml, config=("entry=flag", "x=[1]", "entry=last")).config == {
        "from": "file",
        "table": 2,
        "file": 1,
        "entry": "last",
        "x": [1],
    }
    assert read(toml, {"PREDICTORD_CONFIG": "a=1,b=two"}).config["b"] == "two"


def test_relative_paths_start_where_they_are_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config.json").write_text('{"where": "beside the predictor"}')
    (folder / "predictord.toml").write_text('config_file = "config.json"')
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config.json").write_text('{"where": "here"}')
    monkeypatch.chdir(elsewhere)
    assert read_settings("../predictor.py", {}, {}).config == {"where": "beside the predictor"}
    settings = read_settings("../predictor.py", {"config_file": "config.json"}, {})
    assert (settings.config, settings.config_file) == ({"where": "here"}, elsewhere / "config.json")
    (folder / "predictord.toml").write_text('watch = ["prompts", "../weights.bin"]')
    assert read_settings("../predictor.py", {}, {}).watch == (folder / "prompts", folder / "../weights.bin")
    settings = read_settings("../predictor.py", {"watch": ("prompts", "/a")}, {})
    assert settings.watch == (elsewhere / "prompts", Path("/a"))


def token_of(settings: Settings) -> str | None:
    return settings.token.get_secret_value() if settings.token else None


def test_the_token_comes_from_the_flags_file_then_the_variable_then_other_files() -> None:
    Path("flag").write_text("by-flag\n")
    Path("file").write_text("by-file\n")
    toml, environment = 'token_file = "file"', {"PREDICTORD_TOKEN": "by-variable"}
    assert token_of(read(toml, environment, token_file="flag")) == "by-flag"
    assert token_of(read(toml, environment)) == "by-variable"
    assert token_of(read(toml, {"PREDICTORD_TOKEN": ""})) == "by-file"
    assert read(toml, environment, host="0.0.0.0").host == "0.0.0.0"


@pytest.mark.parametrize("content", ["", "\n", "two words", "ümlaut", "a\nb", "\x00"])
def test_a_token_that_cannot_be_used_is_refused_and_not_shown(content: str) -> None:
    Path("token").write_text(content)
    sentence = error_of(read, token_file="token")
    assert sentence.startswith("--token-file ")
    assert content.strip() == "" or content.strip() not in sentence


def test_a_bad_token_variable_is_not_shown() -> None:
    sentence = error_of(read, environment={"PREDICTORD_TOKEN": "hunter 2"})
    assert sentence.startswith("PREDICTORD_TOKEN must hold a token of printable ASCII without blanks")
    assert "hunter" not in sentence


def test_a_missing_token_file_is_an_error() -> None:
    assert error_of(read, token_file="nix") == (
        "--token-file must be a file that can be read, not 'nix': No such file or directory"
    )


def test_other_machines_need_a_token() -> None:
    tail = "'0.0.0.0' can be reached from other machines: give --token-file as well"
    assert error_of(read, host="0.0.0.0") == f"--host {tail}"
    assert error_of(read, environment={"PREDICTORD_HOST": "0.0.0.0"}) == f"PREDICTORD_HOST {tail}"
    assert error_of(read, toml='host = "0.0.0.0"') == f"predictord.toml: host {tail}"


@pytest.mark.parametrize(
    ("text", "name", "class_name"),
    [
        ("predictor.py", "predictor.py", None),
        ("predictor.py:Other", "predictor.py", "Other"),
        ("./predictor.py:Other", "predictor.py", "Other"),
        ("odd:name.py", "odd:name.py", None),
        ("odd:name.py:Other", "odd:name.py", "Other"),
    ],
)
def test_the_class_follows_the_last_colon(folder: Path, text: str, name: str, class_name: str | None) -> None:
    (folder / "odd:name.py").write_text("")
    assert locate_predictor(text) == (folder / name, class_name)


def test_a_predictor_that_is_no_file_is_a_sentence(folder: Path) -> None:
    assert error_of(locate_predictor, "nope.py:Class") == (
        f"the predictor must be a Python file, but there is no 'nope.py' in {folder}"
    )
    assert "but there is no ''" in error_of(locate_predictor, ":Class")
    assert "not the folder '.'" in error_of(locate_predictor, ".")


def test_a_path_that_no_answer_could_name_is_a_sentence(folder: Path) -> None:
    odd = folder / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    (odd / "predictor.py").write_text("")
    sentence = error_of(locate_predictor, f"{odd}/predictor.py")
    assert sentence.startswith("the predictor's path must be UTF-8, not ")
    assert sentence.endswith("; rename the file, or the folder it is in")


def test_unknown_variables_get_a_note_with_the_nearest_name() -> None:
    environment = {"PREDICTORD_PROT": "1", "PREDICTORD_PORT": "1", "PREDICTORD_TOKEN": "x", "HOME": "/"}
    assert unknown_variables(environment) == [
        "PREDICTORD_PROT is no setting and is ignored; the nearest is PREDICTORD_PORT"
    ]
