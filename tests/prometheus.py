"""What a daemon's `/metrics` says, read by Prometheus' own parser."""

from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.daemon import Daemon

read_openmetrics: Callable[[str], Iterator[Metric]] = openmetrics.text_string_to_metric_families
"""Judges the stricter format."""


class Scrape:
    """One scrape; `scrape[name, label=value]` is the sum of the samples that fit."""

    def __init__(self, daemon: Daemon) -> None:
        self.answer = daemon.client.get("/metrics")
        assert self.answer.status_code == 200, self.answer.text
        self.families: dict[str, Metric] = {
            family.name: family for family in text_string_to_metric_families(self.answer.text)
        }

    def samples(self, name: str, **labels: str) -> Iterator[float]:
        """The values of the samples with this name and these labels, among others."""
        for family in self.families.values():
            for sample in family.samples:
                if sample.name == name and sample.labels.items() >= labels.items():
                    yield sample.value

    def value(self, name: str, **labels: str) -> float:
        """Their sum; fails if there are none."""
        values = list(self.samples(name, **labels))
        assert values, f"no {name} with {labels} in\n{self.answer.text}"
        return sum(values)
