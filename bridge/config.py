"""The only schema of settings."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Port = Annotated[int, Field(ge=0, le=65535)]
CodecName = Literal["PCMU", "PCMA", "G722", "opus"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Http(Section):
    host: str = "127.0.0.1"
    port: Port = 8080
    tls_certificate: str = ""
    tls_private_key: str = ""
    cors_origins: list[str] = []


class Auth(Section):
    api_keys: list[str] = []


class Digest(Section):
    """Who may send us requests, by name and password."""

    users: dict[str, str] = {}
    realm: str = ""
    algorithms: list[Literal["SHA-256", "MD5"]] = ["SHA-256", "MD5"]


class Trunk(Section):
    addresses: list[str] = []
    uri: str = ""
    username: str = ""
    password: str = ""
    realm: str = ""
    # `register` itself is a method of every class that pydantic makes.
    registers: bool = Field(default=False, alias="register")
    registrar: str = ""
    codecs: list[CodecName] = []
    srtp: Literal["off", "optional", "required", "dtls"] = "off"
    late_offer: bool = False
    digest: Digest = Digest()
    header_in: list[str] = ["*"]
    header_out: dict[str, str] = {}
    caller_ids: list[str] = []
    prefixes: list[str] = []
    private_hosts: bool = False
    backups: list[str] = []
    failover_s: Annotated[float, Field(gt=0)] = 4.0
    redirects: Literal["never", "trunk", "any"] = "never"
    max_redirects: Annotated[int, Field(ge=1, le=10)] = 3
    max_calls: Annotated[int, Field(ge=0)] = 0
    max_cps: Annotated[float, Field(ge=0)] = 0.0


class Registrar(Digest):
    """Phones that register with us; off without users."""

    addresses: list[str] = []
    min_expires_s: Annotated[int, Field(ge=1)] = 60
    max_expires_s: Annotated[int, Field(ge=1)] = 3600


class Sip(Section):
    host: str = "127.0.0.1"
    udp_port: Port = 5060
    tcp_port: Port = 5060
    tls_port: Port = 0
    ws_port: Port = 0
    wss_port: Port = 0
    tls_certificate: str = ""
    tls_private_key: str = ""
    tls_ca: str = ""
    insecure_srtp_keys: bool = False
    trunks: dict[str, Trunk] = {}
    advertised_address: str = ""
    unknown_sources: Literal["auto", "allow", "drop"] = "auto"
    trusted_sources: list[str] = []
    inbound_transfer: Literal["off", "allow"] = "off"
    registrar: Registrar = Registrar()


class Rtp(Section):
    host: str = ""
    port_min: Port = 20000
    port_max: Port = 29999
    advertised_address: str = ""
    alternate_host: str = ""
    alternate_advertised_address: str = ""
    codecs: list[CodecName] = ["opus", "G722", "PCMU", "PCMA"]
    comfort_noise_dbfs: Annotated[float, Field(ge=-90, le=0)] = 0.0


class IceServer(Section):
    url: str
    username: str = ""
    credential: str = ""
    secret: str = ""


class WebRtc(Section):
    ice_servers: list[str | IceServer] = []
    advertised_address: str = ""


class Webhooks(Section):
    url: str = ""
    secret: str = ""
    events: list[
        Literal["ringing", "answered", "failed", "ended", "transfer", "dtmf", "message"]
    ] = []


class Session(Section):
    backend: Literal["cascade", "upstream", "echo"] = "cascade"
    model: str = ""
    instructions: str = ""
    voice: str = "alloy"
    greeting: str = ""
    voice_changes: Literal["lenient", "strict"] = "lenient"
    noise_reduction: Literal["off", "near_field", "far_field"] = "off"
    max_duration_s: Annotated[int, Field(ge=1)] = 3600


class Stt(Section):
    kind: Literal["pocketsphinx", "openai", "openai-realtime", "sherpa"] = "pocketsphinx"
    base_url: str = ""
    api_key: str = ""
    model: str = ""
    family: str = ""
    language: str = ""
    timeout_s: Annotated[float, Field(gt=0)] = 10.0
    workers: Annotated[int, Field(ge=1)] = 1


class Llm(Section):
    base_url: str = ""
    model: str = "scripted:receptionist"
    api_key: str = ""
    timeout_s: Annotated[float, Field(gt=0)] = 10.0
    script: str = ""


class Tts(Section):
    kind: Literal["espeak-ng", "openai", "sherpa"] = "espeak-ng"
    base_url: str = ""
    api_key: str = ""
    model: str = ""
    family: str = ""
    voice: str = ""
    sample_rate: Annotated[int, Field(ge=8000, le=48000)] = 24000
    words: Literal["", "sse", "captioned_speech"] = ""
    timeout_s: Annotated[float, Field(gt=0)] = 5.0


class Turn(Section):
    model: str = ""
    echo_gate: bool = True
    pause_first: bool = False
    back_channels: list[str] = []


class Cascade(Section):
    vad: Literal["silero"] = "silero"
    turn: Turn = Turn()
    stt: Stt = Stt()
    llm: Llm = Llm()
    tts: Tts = Tts()
    apology: str = "I am sorry, something went wrong here. Could you say that again, please?"
    fillers: list[str] = []
    filler_after_s: Annotated[float, Field(gt=0)] = 1.5

    @field_validator("stt", "tts", mode="before")
    @classmethod
    def _kind_alone(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value


class Apm(Section):
    echo_control: bool = False
    gain_control: bool = False


class Upstream(Section):
    url: str = ""
    api_key: str = ""
    model: str = ""
    dialect: str = "openai"
    voice: str = ""
    transcription: str = ""
    audio: Literal["pcm", "pcmu", "pcma"] = "pcm"
    local_vad: bool = False
    tls_ca: str = ""
    connect_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    ready_timeout_s: Annotated[float, Field(ge=0)] = 1.0
    stall_timeout_s: Annotated[float, Field(gt=0)] = 8.0
    flow_timeout_s: Annotated[float, Field(gt=0)] = 2.0
    session_limit_s: Annotated[float, Field(ge=0)] = 0.0
    fallback: Literal["hangup", "transfer", "cascade", "echo"] = "hangup"
    fallback_target: str = ""
    apology: str = ""


class Tools(Section):
    mcp_hosts: list[str] = []


class Limits(Section):
    max_calls: Annotated[int, Field(ge=1)] = 1000
    max_load: Annotated[float, Field(gt=0, le=1)] = 0.6
    ring_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    media_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    media_gap_timeout_s: Annotated[float, Field(gt=0)] = 15.0
    hold_timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    drain_timeout_s: Annotated[float, Field(ge=0)] = 30.0


class Store(Section):
    recording: Literal["off", "wav"] = "off"
    recordings_path: str = "recordings"


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Config(Section):
    """Every setting; frozen. `development` is true while no API key is configured."""

    http: Http = Http()
    auth: Auth = Auth()
    sip: Sip = Sip()
    rtp: Rtp = Rtp()
    webrtc: WebRtc = WebRtc()
    webhooks: Webhooks = Webhooks()
    session: Session = Session()
    cascade: Cascade = Cascade()
    apm: Apm = Apm()
    upstream: Upstream = Upstream()
    tools: Tools = Tools()
    limits: Limits = Limits()
    store: Store = Store()
    log: Log = Log()

    @property
    def development(self) -> bool:
        return not self.auth.api_keys

    @property
    def admits_unknown_sources(self) -> bool:
        if self.sip.unknown_sources == "auto":
            return self.development
        return self.sip.unknown_sources == "allow"


def registration_transport(trunk: Trunk) -> str:
    """What the registrar's URI asks for: udp, tcp or tls."""
    scheme, _, rest = (trunk.registrar or trunk.uri).lower().partition(":")
    params = rest.split(";")[1:]
    asked = [param.partition("=")[2] for param in params if param.startswith("transport=")]
    return asked[0] if asked else "tls" if scheme == "sips" else "udp"
