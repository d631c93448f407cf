"""Figures of the server for Prometheus; each app has a registry of its own."""

from __future__ import annotations

from functools import partial

from birefnet.errors import needs_extra

with needs_extra("serve", __name__):
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from prometheus_client.gc_collector import GCCollector
    from prometheus_client.process_collector import ProcessCollector


SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one app; names begin with `birefnet_`, those of the process with `process_`."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.requests = counter(
            "birefnet_requests", "Requests answered.", ["route", "method", "status"]
        )
        self.latency = histogram(
            "birefnet_request_seconds",
            "Time from a request's arrival to the end of its answer.",
            ["route"],
            buckets=SECONDS,
        )
        self.slots = gauge("birefnet_queue_requests", "Pictures that wait or are worked on.")
        self.refused = counter(
            "birefnet_refused",
            "Pictures refused or given up, by reason: busy, timed_out, cancelled.",
            ["reason"],
        )
        self.pictures = counter("birefnet_pictures", "Pictures done.", ["model"])
        self.stage = histogram(
            "birefnet_stage_seconds",
            "Time of a picture's stages: read, wait (for the network), network, finish.",
            ["stage"],
            buckets=SECONDS,
        )
        self.batch = histogram(
            "birefnet_batch_pictures",
            "Pictures that ran together.",
            ["model"],
            buckets=(1, 2, 3, 4, 6, 8, 12, 16, 32),
        )
        self.models = gauge(
            "birefnet_model_bytes", "Memory of the models that are loaded.", ["model"]
        )
        self.loads = counter("birefnet_model_loads", "Models loaded.", ["model"])
        self.jobs = gauge("birefnet_jobs", "Background jobs by state.", ["status"])

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
