from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from predictord.settings import Settings, declared, is_loopback

PATH = Path("/predictors/predictor.py")


def test_defaults_are_those_of_the_documentation() -> None:
    assert Settings(predictor_path=PATH).model_dump() == {
        "predictor_path": PATH,
        "class_name": None,
        "token": None,
        "host": None,
        "port": 8000,
        "max_queue": 1024,
        "max_body_bytes": 104_857_600,
        "allow_host": (),
        "allow_origin": (),
        "token_file": None,
        "config": {},
        "config_file": None,
        "concurrency": None,
        "max_batch_size": None,
        "batch_interval_s": None,
        "devices": "auto",
        "workers_per_device": 1,
        "warm_start": True,
        "reload": True,
        "reload_mode": "auto",
        "watch": (),
        "startup_timeout_s": 600.0,
        "request_timeout_s": 300.0,
        "queue_timeout_s": 300.0,
        "drain_timeout_s": 30.0,
        "log_format": "auto",
        "debug": True,
    }


def test_settings_are_frozen_and_know_their_names() -> None:
    settings = Settings(predictor_path=PATH)
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1
    with pytest.raises(ValidationError, match="Extra inputs"):
        Settings(predictor_path=PATH, prot=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        (None, True),
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("localhost.evil.example", False),
        ("127.1", False),
    ],
)
def test_loopback_hosts_need_no_token_and_show_tracebacks(host: str | None, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    if not loopback:
        with pytest.raises(ValidationError, match="give --token-file"):
            Settings(predictor_path=PATH, host=host)
    settings = Settings(predictor_path=PATH, host=host, token=SecretStr("secret"))
    assert (settings.is_loopback, settings.debug) == (loopback, loopback)


def test_debug_can_be_chosen_for_any_host() -> None:
    assert Settings(predictor_path=PATH, host="0.0.0.0", token=SecretStr("secret"), debug=True).debug
    assert not Settings(predictor_path=PATH, debug=False).debug


def test_the_token_is_not_shown() -> None:
    assert "hunter2" not in repr(Settings(predictor_path=PATH, token=SecretStr("hunter2")))


def test_every_setting_has_a_flag_a_variable_a_group_and_a_line() -> None:
    settings = declared()
    assert set(Settings.model_fields) - {setting.attribute for setting in settings.values()} == {
        "predictor_path",
        "class_name",
        "token",
    }
    for key, setting in settings.items():
        assert setting.flag == "--" + key.replace("_", "-")
        assert setting.variable == "PREDICTORD_" + key.upper()
        assert setting.group
        assert setting.line.endswith(".")
    units = {key: setting.attribute for key, setting in settings.items() if setting.attribute != key}
    assert units == {
        "max_body_size": "max_body_bytes",
        "batch_interval": "batch_interval_s",
        "startup_timeout": "startup_timeout_s",
        "request_timeout": "request_timeout_s",
        "queue_timeout": "queue_timeout_s",
        "drain_timeout": "drain_timeout_s",
    }
