"""Every series this server exports, in one place. Labels take few values: fixed ones, or names
from the configuration.
"""

from prometheus_client import Counter, Gauge, Histogram

calls_started = Counter("bridge_calls_started", "Calls that reached us", ["kind"])
calls_ended = Counter("bridge_calls_ended", "Calls ended", ["kind", "reason"])
calls_live = Gauge("bridge_calls_live", "Calls ringing or up")
sessions_live = Gauge("bridge_sessions_live", "Realtime sessions open")
tasks = Gauge("bridge_tasks", "Tasks of the event loop; the same again when all calls have gone")
barge_ins = Counter("bridge_barge_ins", "Playouts cut by the caller")
barge_in_decision_s = Histogram(
    "bridge_barge_in_decision_seconds",
    "From the decision to cut to the last packet with old sound",
    buckets=(0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.5),
)
barge_in_onset_s = Histogram(
    "bridge_barge_in_onset_seconds",
    "From the caller's first sound to the last packet with old sound",
    buckets=(0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 1.0),
)
clients_dropped = Counter("bridge_clients_dropped", "Event clients dropped for reading too slowly")
webhook_attempts = Counter("bridge_webhook_attempts", "Webhook deliveries tried", ["outcome"])
media_tick_late_p99_s = Gauge(
    "bridge_media_tick_late_p99_seconds", "How late the media clock ticked, 99th percentile"
)
webrtc_rung = Gauge(
    "bridge_webrtc_rung",
    "1 for the way browsers' media goes; direct unless aiortc differs",
    ["way"],
)
sip_state = Gauge(
    "bridge_sip_state", "What SIP keeps of calls; none of it half a minute after the last", ["kind"]
)
call_mos = Histogram(
    "bridge_call_mos",
    "How calls sounded, estimated by the E-model when they end",
    ["direction"],
    buckets=(1.5, 2.0, 2.6, 3.1, 3.6, 3.9, 4.1, 4.3, 4.5),
)
call_round_trip_s = Histogram(
    "bridge_call_round_trip_seconds",
    "Round trips of RTCP, the last of each call",
    buckets=(0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0),
)
recording_dropped_s = Counter(
    "bridge_recording_dropped_seconds", "Sound that the disk was too slow for: silence in its place"
)
recordings_failed = Counter("bridge_recordings_failed", "Recordings that could not be written")
findings = Counter("bridge_findings", "What was found wrong with the media of calls", ["type"])
registrations = Gauge(
    "bridge_registrations", "1 for the state each trunk's registration is in", ["trunk", "state"]
)
load_high = Gauge(
    "bridge_load_high",
    "1 while so little time is left that a model hears up to 100 ms at once, not 20",
)
media_load = Gauge("bridge_media_load", "Share of the last second that the media of all calls took")
opus_sparing = Gauge(
    "bridge_opus_sparing", "1 while Opus is coded with less work because the media clock is late"
)
media_ticks_skipped = Gauge("bridge_media_ticks_skipped", "Ticks of the media clock left out")
upstream_losses = Counter(
    "bridge_upstream_losses", "Connections to the model lost in a call", ["reason"]
)
upstream_rollovers = Counter("bridge_upstream_rollovers", "Sessions renewed before their limit")
upstream_fallbacks = Counter("bridge_upstream_fallbacks", "Calls whose model did not come back")
upstream_false_pauses = Counter(
    "bridge_upstream_false_pauses", "Agents paused for what the model did not take for speech"
)
upstream_bad_events = Counter("bridge_upstream_bad_events", "Events of the model that were none")
upstream_audio_dropped_s = Counter(
    "bridge_upstream_audio_dropped_seconds", "Sound of callers that the model was too slow for"
)
