"""What a daemon tells of itself over HTTP, as Prometheus reads it."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


def free_port(host: str = "127.0.0.1") -> int:
    """One that nobody listens on at present."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as found:
        found.bind((host, 0))
        port: int = found.getsockname()[1]
        return port


@dataclass(frozen=True)
class Answer:
    """Of HTTP."""

    status: int
    headers: Mapping[str, str]
    body: str


def fetch(url: str, method: str = "GET", timeout: float = 10.0) -> Answer:
    """Ask; an error of HTTP is an answer, too."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as found:
            return Answer(found.status, dict(found.headers), found.read().decode())
    except urllib.error.HTTPError as error:
        return Answer(error.code, dict(error.headers), error.read().decode())


class Scrape:
    """One answer of ``/metrics``.

    Args:
        text: of it.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: dict[str, Metric] = {each.name: each for each in text_string_to_metric_families(text)}
        self.samples: dict[tuple[str, Labels], float] = {}
        for family in self.families.values():
            for sample in family.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                assert key not in self.samples, key
                self.samples[key] = sample.value

    def get(self, name: str, **labels: str) -> float | None:
        """The value of one series, ``from_`` standing for ``from``."""
        return self.samples.get(
            (name, tuple(sorted((key.rstrip("_"), value) for key, value in labels.items())))
        )

    def sum(self, name: str, **labels: str) -> float:
        """The sum of all series that have these labels."""
        wanted = {(key.rstrip("_"), value) for key, value in labels.items()}
        return sum(
            value for (found, having), value in self.samples.items() if found == name and wanted <= {*having}
        )

    def by(
        self, name: str, *labels: str, where: Callable[[float], bool] = bool
    ) -> dict[tuple[str, ...], float]:
        """The values of all series of a name that are not zero, by these labels."""
        return {
            tuple(dict(having)[label] for label in labels): value
            for (found, having), value in self.samples.items()
            if found == name and where(value)
        }


def scrape(url: str) -> Scrape:
    """What ``/metrics`` at this address says."""
    answer = fetch(f"{url}/metrics")
    assert answer.status == 200, answer
    return Scrape(answer.body)
