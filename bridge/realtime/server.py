"""One Realtime session as a protocol: client and model events in, server events and orders out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, assert_never

from msgspec import UNSET

from bridge import ids
from bridge.errors import RequestError
from bridge.ids import ItemId
from bridge.realtime import client_events, server_events as events
from bridge.realtime.client_events import MAX_SESSION, AnyClientEvent, decode_object
from bridge.realtime.conversation import Conversation
from bridge.realtime.errors import (
    BadEvent,
    already_shorter,
    append_on_call,
    bad_audio,
    no_responses,
    not_truncatable,
    session_over,
)
from bridge.realtime.fields import out_of_range, well_formed
from bridge.realtime.generation import Generation, session_response
from bridge.realtime.items import parse_item, user_text
from bridge.realtime.outbox import Outbox
from bridge.realtime.outputs import ConfigChanged, Output, Pcm, PushAudio
from bridge.realtime.playback import Playback
from bridge.realtime.response_config import read_response
from bridge.realtime.session_config import SessionConfig
from bridge.realtime.turns import Turns
from bridge.realtime.wire_audio import RawPcm, WireAudio, decode_audio

MAX_AUDIO = 15 * 1024 * 1024  # characters of base64 in one append

ItemEvent = (
    client_events.ItemCreate
    | client_events.ItemRetrieve
    | client_events.ItemTruncate
    | client_events.ItemDelete
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator may choose about the protocol."""

    strict_voice: bool = False
    """Refuse a session.update that changes the voice after assistant audio, as OpenAI does."""
    kept_audio_s: float = 10.0
    """Newest audio of items kept for conversation.item.retrieved; older items keep words only."""
    wire_audio: Callable[[str], WireAudio] | None = None
    """Codec by session format ("audio/pcmu", "audio/pcma"); without it only audio/pcm is heard."""


class RealtimeServer:
    """The server side of one session. Nothing here reads a clock or touches a socket.

    Every method may queue outputs; the owner calls `take()` after each and acts on them in order.
    `now` is the owner's monotonic time in seconds.

    On a call the sound goes by Play and the wire has its own codec; elsewhere it goes by
    response.output_audio.delta in the session's formats. There RequestError is raised for a
    `config` whose formats cannot be had.
    """

    def __init__(
        self,
        *,
        session_id: str,
        config: SessionConfig,
        on_call: bool,
        expires_at: int,
        now: float,
        new_id: Callable[[str], str] = ids.new_id,
        policy: Policy = Policy(),
    ) -> None:
        self._session_id = session_id
        self._on_call = on_call
        self._expires_at = expires_at
        self._new_id = new_id
        self._policy = policy
        self._config = self._playable(config)
        self._over = False
        self._told_append: dict[str, bool] = {}
        self._codec: tuple[str, WireAudio] | None = None
        self._outbox = Outbox(new_id)
        self._conversation = Conversation(
            conversation_id=new_id("conv"), kept_audio_s=policy.kept_audio_s
        )
        self._playback = Playback(self._conversation, self._outbox)
        self._turns = Turns(self._conversation, self._outbox, new_id=new_id, config=config)
        self._generation = Generation(
            self._conversation, self._outbox, self._playback, new_id=new_id, encoder=self._encoder
        )

    @property
    def config(self) -> SessionConfig:
        return self._config

    @property
    def session(self) -> dict[str, Any]:
        """The session object in wire shape, as session.created carries it."""
        return self._config.as_dict(self._session_id, self._expires_at)

    @property
    def active_response_id(self) -> str | None:
        """The response being generated for the default conversation."""
        active = self._generation.active
        return None if active is None else active.id

    def take(self) -> list[Output]:
        return self._outbox.take()

    # Clients

    def attach(self, client: str, now: float) -> None:
        """A connection joins: it alone gets session.created, with the session as it is."""
        self._told_append[client] = False
        self._outbox.send(events.session_created(self.session), client)

    def detach(self, client: str) -> None:
        self._told_append.pop(client, None)

    def receive(self, client: str, text: str | bytes, now: float) -> None:
        """One event of a client; what is wrong with it is told to that client only."""
        event_id: str | None = None
        try:
            event = client_events.parse(text)
            event_id = event.event_id
            self._dispatch(client, event, now)
        except RequestError as error:
            if isinstance(error, BadEvent) and error.event_id is not None:
                event_id = error.event_id
            self._outbox.send(
                events.error(error.type, error.code, error.message, error.param, event_id), client
            )

    def _dispatch(self, client: str, event: AnyClientEvent, now: float) -> None:
        match event:
            case client_events.InputAudioAppend():
                self._append(client, event.audio, now)
            case client_events.SessionUpdate():
                self._update(decode_object(event.session, "session", most=MAX_SESSION))
            case client_events.InputAudioCommit():
                self._turns.commit()
            case client_events.InputAudioClear():
                self._turns.clear()
            case client_events.OutputAudioClear():
                self._playback.clear()
            case client_events.ResponseCreate():
                self._create_response(event)
            case client_events.ResponseCancel():
                self._generation.cancel(event.response_id)
            case (
                client_events.ItemCreate()
                | client_events.ItemRetrieve()
                | client_events.ItemTruncate()
                | client_events.ItemDelete()
            ):
                self._edit(event)
            case _:
                assert_never(event)

    def _edit(self, event: ItemEvent) -> None:
        match event:
            case client_events.ItemCreate():
                item = parse_item(
                    decode_object(event.item, "item"),
                    "item",
                    new_id=self._new_id,
                    decode=self._decode,
                )
                self._conversation.check(item)
                self._turns.add(item, event.previous_item_id)
            case client_events.ItemRetrieve():
                item = self._conversation.find(event.item_id)
                self._outbox.send(events.item_retrieved(item.as_dict(audio=True)))
            case client_events.ItemTruncate():
                self._truncate(event)
            case client_events.ItemDelete():
                item = self._conversation.find(event.item_id)
                self._conversation.delete(item.id)
                self._outbox.send(events.item_deleted(item.id))
            case _:
                assert_never(event)

    def _update(self, patch: Mapping[str, Any]) -> None:
        config = self._config.updated(
            patch,
            assistant_audio_exists=self._generation.audio_exists,
            strict_voice=self._policy.strict_voice,
        )
        self._config = self._playable(config)
        self._turns.configure(self._config)
        self._outbox.put(ConfigChanged(self._config))
        self._outbox.send(events.session_updated(self.session))

    def _append(self, client: str, audio: str, now: float) -> None:
        if self._on_call:
            # A client that streams would otherwise get fifty errors a second.
            if not self._told_append.get(client):
                self._told_append[client] = True
                raise append_on_call()
            return
        if len(audio) > MAX_AUDIO:
            raise bad_audio("audio of at most 15 MiB", "audio")
        self._turns.check_room()
        name = self._config.input_format["type"]
        if self._codec is None or self._codec[0] != name:
            self._codec = (name, self._wire_audio(name))
        pcm = decode_audio(audio, "audio", name, self._codec[1])
        if len(pcm):
            self._turns.audio_received(pcm)
            self._outbox.put(PushAudio(pcm))

    def _truncate(self, event: client_events.ItemTruncate) -> None:
        item = self._conversation.find(event.item_id)
        found = item.part("output_audio")
        if found is None or not found[1].samples:
            raise not_truncatable()
        if event.content_index != found[0]:
            raise out_of_range("content_index", f"expected {found[0]}")
        if event.audio_end_ms < 0:
            raise out_of_range("audio_end_ms", "expected a value of at least 0")
        if event.audio_end_ms > found[1].audio_ms:
            raise already_shorter(found[1].audio_ms, event.audio_end_ms)
        self._conversation.truncate(item, event.audio_end_ms)
        self._outbox.send(events.item_truncated(item.id, event.audio_end_ms))

    def _create_response(self, event: client_events.ResponseCreate) -> None:
        if self._config.type == "transcription":
            raise no_responses()
        if self._over:
            raise session_over()
        raw = event.response
        asked = {} if raw is UNSET or bytes(raw) == b"null" else decode_object(raw, "response")
        self._generation.start(
            read_response(
                asked,
                self._config,
                conversation=self._conversation,
                new_id=self._new_id,
                decode=self._decode,
                voice_is_locked=self._generation.audio_exists,
                strict_voice=self._policy.strict_voice,
            )
        )

    # The end

    def fail(self, code: str, message: str) -> None:
        """An error that is nobody's fault: told to every client."""
        kind = RequestError.type
        self._outbox.send(events.error(kind, code, message, None, None))

    def finish(self, now: float) -> None:
        """The caller or the owner leaves: what is open is closed, and nothing new begins."""
        self._over = True
        self._turns.speech_stopped(self._turns.heard_ms)
        self._playback.clear()
        self._playback.when_settled(self._generation.cancel_all)

    # The caller

    def audio_received(self, pcm: Pcm, now: float) -> None:
        """Sound of the caller, on its way to the model too: the clock that speech is told in."""
        self._turns.audio_received(pcm)

    def speech_started(self, audio_ms: int, now: float) -> None:
        detection = self._config.turn_detection
        if self._turns.speech_started(audio_ms) and detection and detection.interrupt_response:
            self._generation.interrupt(_nothing)

    def speech_stopped(self, audio_ms: int, now: float) -> None:
        # What the caller heard comes before what was said to it.
        self._playback.when_settled(lambda: self._turn_ended(audio_ms))

    def _turn_ended(self, audio_ms: int) -> None:
        detection = self._config.turn_detection
        if self._turns.speech_stopped(audio_ms) and detection and detection.create_response:
            self._answer()

    def _answer(self) -> None:
        if self._config.type == "realtime" and not self._over:
            self._generation.start_or_owe(lambda: session_response(self._config))

    def transcript_delta(self, item_id: str, delta: str) -> None:
        self._turns.transcript_delta(item_id, well_formed(delta))

    def transcript_completed(self, item_id: str, transcript: str, audio_s: float) -> None:
        self._turns.transcript_completed(item_id, well_formed(transcript), audio_s)

    def transcript_failed(self, item_id: str, message: str) -> None:
        self._turns.transcript_failed(item_id, message)

    def digit(self, digit: str, received_at_unix: int, *, as_turn: bool, now: float) -> None:
        """A pressed key; `as_turn` makes it something the caller said, which interrupts."""
        self._outbox.send(events.dtmf_received(digit, received_at_unix))
        if as_turn:
            self._generation.interrupt(lambda: self._digit_turn(digit))

    def _digit_turn(self, digit: str) -> None:
        self._turns.add(user_text(ItemId(self._new_id("item")), f"[dtmf] {digit}"))
        self._answer()

    # The model

    def create_response(self, now: float, *, instructions: str | None = None) -> str | None:
        """Returns the id, or None while another response is active."""
        if self._over or self._generation.active or self._config.type != "realtime":
            return None
        config = session_response(self._config)
        if instructions is not None:
            config = replace(config, instructions=instructions)
        return self._generation.start(config).id

    def text_delta(self, response_id: str, delta: str) -> None:
        self._generation.add_text(response_id, well_formed(delta))

    def audio_delta(self, response_id: str, pcm: Pcm) -> None:
        self._generation.add_audio(response_id, pcm)

    def tool_call(self, response_id: str, tool_call_id: str, name: str, arguments: str) -> None:
        self._generation.add_tool_call(
            response_id, tool_call_id, well_formed(name), well_formed(arguments)
        )

    def response_finished(
        self, response_id: str, reason: str | None, usage: Mapping[str, int], now: float
    ) -> None:
        self._generation.finish(response_id, reason, usage)

    def response_failed(self, response_id: str, code: str, message: str, now: float) -> None:
        self._generation.fail(response_id, code, message)

    # The playout of a call; `key` is the item id that Play named

    def playback_started(self, key: str) -> None:
        self._playback.started(key)

    def playback_finished(self, key: str, now: float) -> None:
        self._playback.finished(key)

    def playback_cut(self, key: str, played_ms: int, now: float) -> None:
        self._playback.cut(key, played_ms)

    def playout_cleared(self, now: float) -> None:
        """All cuts of the last ClearPlayout were told; what had no cut was fully heard."""
        self._playback.cleared()

    # Formats

    def _playable(self, config: SessionConfig) -> SessionConfig:
        if not self._on_call:
            for audio_format in (config.input_format, config.output_format):
                self._wire_audio(audio_format["type"])
        return config

    def _decode(self, audio: str, param: str) -> Pcm:
        name = self._config.input_format["type"]
        return decode_audio(audio, param, name, self._wire_audio(name))

    def _encoder(self, audio_format: Mapping[str, Any]) -> Callable[[Pcm], bytes] | None:
        return None if self._on_call else self._wire_audio(audio_format["type"]).encode

    def _wire_audio(self, name: str) -> WireAudio:
        if name == "audio/pcm":
            return RawPcm()
        if self._policy.wire_audio is None:
            raise RequestError(f"Audio of type '{name}' is not available here.")
        return self._policy.wire_audio(name)


def _nothing() -> None:
    pass
