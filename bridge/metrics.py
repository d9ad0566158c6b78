"""Every series this server exports, in one place. Labels have fixed value sets."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

registry = CollectorRegistry()

calls_started = Counter(
    "bridge_calls_started", "Calls that reached us", ["kind"], registry=registry
)
calls_ended = Counter("bridge_calls_ended", "Calls ended", ["kind", "reason"], registry=registry)
calls_live = Gauge("bridge_calls_live", "Calls ringing or up", registry=registry)
sessions_live = Gauge("bridge_sessions_live", "Realtime sessions open", registry=registry)
barge_ins = Counter("bridge_barge_ins", "Playouts cut by the caller", registry=registry)
clients_dropped = Counter(
    "bridge_clients_dropped", "Event clients dropped for reading too slowly", registry=registry
)
webhook_attempts = Counter(
    "bridge_webhook_attempts", "Webhook deliveries tried", ["outcome"], registry=registry
)
tick_late_s = Histogram(
    "bridge_media_tick_late_seconds",
    "How late the media clock ticked",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5),
    registry=registry,
)
