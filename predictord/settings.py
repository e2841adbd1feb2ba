"""Every setting, declared once: flags, `PREDICTORD_*` variables and TOML keys are derived from this table.

Settings hold values only. Where the values come from, and which source wins, is in
sources.py; how a kind of value is written is in kinds.py.
"""

import ipaddress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from predictord.kinds import (
    DEVICES,
    HOST,
    HOSTS,
    ORIGIN,
    ORIGINS,
    PAIRS,
    PATH,
    PATHS,
    SWITCH,
    Kind,
    choice,
    count,
    duration,
    size,
)


@dataclass(frozen=True)
class About:
    """What the help says of a setting.

    `default` is its text where the default is not a plain value; `key` is the name
    users see, where it is not the attribute's.
    """

    group: str
    line: str
    default: str | None = None
    key: str | None = None


NETWORK, ACCESS, PREDICTOR, WORKERS = "Network", "Access", "Predictor", "Workers"
TIME_LIMITS, OUTPUT = "Time limits (0: none)", "Output"


class Settings(BaseModel):
    """What one daemon runs with; frozen, a reload makes a new one.

    Names end in the unit. A time limit of 0 is none; `None` for concurrency and
    batching leaves the choice to the predictor class, and as `host` means both
    loopback addresses. `predictor_path` is absolute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    predictor_path: Path
    class_name: str | None = None
    token: SecretStr | None = Field(default=None, min_length=1)

    host: Annotated[str | None, HOST, About(NETWORK, "Address to listen on.", "127.0.0.1 and ::1")] = None
    port: Annotated[int, count(0, 65535), About(NETWORK, "Port; 0 picks a free one.")] = 8000
    max_queue: Annotated[int, count(0, 1_000_000), About(NETWORK, "Requests that may wait.")] = 1024
    max_body_bytes: Annotated[int, size("1TiB"), About(NETWORK, "Largest request body.", key="max_body_size")] = (
        100 << 20
    )

    allow_host: Annotated[
        tuple[Annotated[str, HOST], ...], HOSTS, About(ACCESS, "One more name that a Host header may have.")
    ] = ()
    allow_origin: Annotated[
        tuple[Annotated[str, ORIGIN], ...], ORIGINS, About(ACCESS, "One more origin whose web pages may call.")
    ] = ()
    token_file: Annotated[
        Path | None, PATH, About(ACCESS, "Holds the token that clients must send; else PREDICTORD_TOKEN does.")
    ] = None

    config: Annotated[
        dict[str, Any], PAIRS, About(PREDICTOR, "Entry of the dict for __init__; VALUE is JSON, else text.")
    ] = {}
    config_file: Annotated[Path | None, PATH, About(PREDICTOR, "The dict for __init__, as YAML, JSON or TOML.")] = None
    concurrency: Annotated[
        int | None, count(1, 1024), About(PREDICTOR, "Requests a worker works on at once.", "1; 32 for async")
    ] = None
    max_batch_size: Annotated[int | None, count(1, 65536), About(PREDICTOR, "Requests in one call.", "1")] = None
    batch_interval_s: Annotated[
        float | None,
        duration("1h"),
        About(PREDICTOR, "How long the oldest request waits for company.", "0s", key="batch_interval"),
    ] = None

    devices: Annotated[
        str, DEVICES, About(WORKERS, "auto (every visible GPU, else the CPU), cpu, or a comma list of GPUs.")
    ] = "auto"
    workers_per_device: Annotated[int, count(1, 64), About(WORKERS, "Workers on each device.")] = 1
    warm_start: Annotated[
        bool, SWITCH, About(WORKERS, "Import packages once, ahead, and fork the workers from there.")
    ] = True
    reload: Annotated[bool, SWITCH, About(WORKERS, "Watch the code and put saves live.")] = True
    reload_mode: Annotated[
        Literal["auto", "restart", "in-turn"],
        choice("auto", "restart", "in-turn"),
        About(WORKERS, "auto, restart (never in place), or in-turn (never two generations on one device)."),
    ] = "auto"
    watch: Annotated[
        tuple[Annotated[Path, PATH], ...],
        PATHS,
        About(WORKERS, "One more file, or folder of files, whose change loads the workers anew."),
    ] = ()

    startup_timeout_s: Annotated[
        float, duration("365d"), About(TIME_LIMITS, "Silence of a loading worker.", key="startup_timeout")
    ] = 600.0
    request_timeout_s: Annotated[
        float,
        duration("365d"),
        About(TIME_LIMITS, "A prediction; in a stream, from item to item.", key="request_timeout"),
    ] = 300.0
    queue_timeout_s: Annotated[
        float, duration("365d"), About(TIME_LIMITS, "Waiting for a worker.", key="queue_timeout")
    ] = 300.0
    drain_timeout_s: Annotated[
        float, duration("365d"), About(TIME_LIMITS, "Finishing work on stop.", key="drain_timeout")
    ] = 30.0

    log_format: Annotated[
        Literal["auto", "pretty", "plain", "json"],
        choice("auto", "pretty", "plain", "json"),
        About(OUTPUT, "auto (pretty on a terminal, else plain), pretty, plain or json."),
    ] = "auto"
    debug: Annotated[bool, SWITCH, About(OUTPUT, "Send tracebacks in error bodies.", "on for loopback")] = Field(
        default_factory=lambda known: is_loopback(known["host"])
    )

    @field_validator("host")
    @classmethod
    def _require_token(cls, host: str | None, info: ValidationInfo) -> str | None:
        # `token` is known here because it is declared before `host`.
        if not is_loopback(host) and info.data.get("token") is None:
            raise PydanticCustomError("rule", "can be reached from other machines: give --token-file as well")
        return host

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)


def is_loopback(host: str | None) -> bool:
    """Whether listening on `host` (`None`: the default) stays within this machine."""
    if host is None or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Setting:
    """A field of `Settings` that users can set, and its name in each source."""

    attribute: str
    key: str
    kind: Kind
    group: str
    line: str
    default: str | None

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.key.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return "PREDICTORD_" + self.key.upper()


@cache
def declared() -> dict[str, Setting]:
    """The settings that have a flag, by key, in the order of their declaration."""
    settings = {}
    for attribute, field in Settings.model_fields.items():
        kinds = [part for part in field.metadata if isinstance(part, Kind)]
        about = [part for part in field.metadata if isinstance(part, About)]
        for kind, told in zip(kinds, about, strict=True):
            key = told.key or attribute
            default = told.default or (kind.show(field.default) if field.default else None)
            settings[key] = Setting(attribute, key, kind, told.group, told.line, default)
    return settings
