"""Counts of what a server does, as Prometheus reads them."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

BUCKETS = (0.01, 0.025, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
KIND = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What has been counted since the server began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: Counter[tuple[str, int]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._count: Counter[str] = Counter()

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        with self._lock:
            self._requests[method, route, status] += 1
            self._count[route] += 1
            self._seconds[route] += seconds  # type: ignore[assignment]
            self._buckets[route, bisect_left(BUCKETS, seconds)] += 1

    def text(self, gauges: dict[str, tuple[str, float]]) -> str:
        """Return everything as text.

        Args:
            gauges: by name, what each means and its current value.
        """
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines(gauges))

    def _lines(self, gauges: dict[str, tuple[str, float]]) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Requests by method, route and status.")
        for (method, route, status), many in sorted(self._requests.items()):
            yield f'mobilesam_requests_total{{method="{method}",route="{route}",status="{status}"}} {many}'
        yield from _head("request_seconds", "histogram", "Seconds from a request's head to the answer's end.")
        for route in sorted(self._count):
            many = 0
            for i, bucket in enumerate(BUCKETS):
                many += self._buckets[route, i]
                yield f'mobilesam_request_seconds_bucket{{route="{route}",le="{bucket:g}"}} {many}'
            yield f'mobilesam_request_seconds_bucket{{route="{route}",le="+Inf"}} {self._count[route]}'
            yield f'mobilesam_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}'
            yield f'mobilesam_request_seconds_count{{route="{route}"}} {self._count[route]}'
        for name, (about, value) in gauges.items():
            yield from _head(name, "gauge", about)
            yield f"mobilesam_{name} {value:g}"


def _head(name: str, kind: str, about: str) -> Iterator[str]:
    yield f"# HELP mobilesam_{name} {about}"
    yield f"# TYPE mobilesam_{name} {kind}"
