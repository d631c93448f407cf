"""Figures of the server for Prometheus; each app has a registry of its own."""

from __future__ import annotations

from birefnet.errors import needs_extra

with needs_extra("serve", __name__):
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from prometheus_client.gc_collector import GCCollector
    from prometheus_client.process_collector import ProcessCollector


SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one app; names begin with `birefnet_`, those of the process with `process_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Counter(
            "birefnet_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "birefnet_request_seconds",
            "Time from a request's arrival to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.slots = Gauge(
            "birefnet_queue_requests",
            "Pictures that wait or are worked on.",
            registry=self.registry,
        )
        self.refused = Counter(
            "birefnet_refused",
            "Pictures refused or given up, by reason: busy, timed_out, cancelled.",
            ["reason"],
            registry=self.registry,
        )
        self.pictures = Counter(
            "birefnet_pictures", "Pictures done.", ["model"], registry=self.registry
        )
        self.stage = Histogram(
            "birefnet_stage_seconds",
            "Time of a picture's stages: read, wait (for the network), network, finish.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch = Histogram(
            "birefnet_batch_pictures",
            "Pictures that ran together.",
            ["model"],
            buckets=(1, 2, 3, 4, 6, 8, 12, 16, 32),
            registry=self.registry,
        )
        self.models = Gauge(
            "birefnet_model_bytes",
            "Memory of the models that are loaded.",
            ["model"],
            registry=self.registry,
        )
        self.loads = Counter(
            "birefnet_model_loads", "Models loaded.", ["model"], registry=self.registry
        )
        self.jobs = Gauge(
            "birefnet_jobs", "Background jobs by state.", ["status"], registry=self.registry
        )

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
