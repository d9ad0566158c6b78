"""One Realtime session as a protocol: client and model events in, server events and orders out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

from msgspec import UNSET, Raw, UnsetType

from bridge import ids
from bridge.errors import RequestError
from bridge.ids import ItemId
from bridge.realtime import beta, client_events, server_events as events
from bridge.realtime.client_events import MAX_SESSION, OFFERED, AnyClientEvent, decode_object
from bridge.realtime.conversation import Conversation
from bridge.realtime.editing import Editing
from bridge.realtime.errors import (
    BadEvent,
    append_on_call,
    no_call,
    no_responses,
    session_over,
    speed_locked,
)
from bridge.realtime.extras import Extras, keys_to_press
from bridge.realtime.fields import unsupported, well_formed
from bridge.realtime.generation import Generation, session_response
from bridge.realtime.idle import Idle
from bridge.realtime.items import Item, system_text, user_text
from bridge.realtime.outbox import Outbox
from bridge.realtime.outputs import Coded, ConfigChanged, Output, Pcm, PushAudio, SendDigits
from bridge.realtime.playback import Playback
from bridge.realtime.response_config import read_response
from bridge.realtime.server_events import Logprobs
from bridge.realtime.session_config import SessionConfig
from bridge.realtime.tool_servers import ToolServers
from bridge.realtime.turns import Turns
from bridge.realtime.window import MAX_INPUT_TOKENS
from bridge.realtime.wire_audio import Formats, WireAudio


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator may choose about the protocol."""

    strict_voice: bool = False
    """Refuse a session.update that changes the voice after assistant audio, as OpenAI does, or
    the speed during a response. Otherwise the voice stays and the speed counts from the next on."""
    kept_audio_s: float = 10.0
    """Newest audio of items kept for conversation.item.retrieved; older items keep words only."""
    wire_audio: Callable[[str], WireAudio] | None = None
    """Codec by session format ("audio/pcmu", "audio/pcma"); without it only audio/pcm is heard."""
    max_input_tokens: int = MAX_INPUT_TOKENS
    """What the model takes in one request: `truncation` keeps to it."""


class RealtimeServer:
    """The server side of one session. Nothing here reads a clock or touches a socket.

    Every method may queue outputs; the owner calls `take()` after each and acts on them in order.
    `now` is the owner's monotonic time in seconds; after each call the owner asks `next_timer()`
    and calls `handle_timer` then.

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
        self._formats = Formats(policy.wire_audio, on_call=on_call)
        self._config = self._formats.playable(config)
        self._over = False
        self._told_append: dict[str, bool] = {}
        self._appended: dict[str, Iterator[Pcm]] = {}
        self._idle = Idle()
        self._outbox = Outbox(new_id)
        self._extras = Extras(self._outbox)
        self._conversation = Conversation(
            conversation_id=new_id("conv"), kept_audio_s=policy.kept_audio_s
        )
        self._playback = Playback(self._conversation, self._outbox)
        self._turns = Turns(self._conversation, self._outbox, new_id=new_id, config=config)
        self._tools = ToolServers(self._conversation, self._outbox, new_id=new_id)
        self._generation = Generation(
            self._conversation,
            self._outbox,
            self._playback,
            new_id=new_id,
            encoder=self._formats.encoder,
            idle=self._idle,
            max_input_tokens=policy.max_input_tokens,
            tools=self._tools,
        )
        self._editing = Editing(
            self._conversation,
            self._turns,
            self._outbox,
            new_id=new_id,
        )
        self._tools.configure(self._config.tools)

    @property
    def config(self) -> SessionConfig:
        return self._config

    @property
    def session(self) -> dict[str, Any]:
        """The session object in wire shape, as session.created carries it."""
        return self._config.as_dict(self._session_id, self._expires_at)

    @property
    def model_session(self) -> dict[str, Any]:
        """As `session`, with the tools that the model may ask for: functions only."""
        tools = [dict(tool) for tool in self._tools.functions(self._config.tools)]
        choice = self._tools.choice(self._config.tool_choice)
        return {**self.session, "tools": tools, "tool_choice": choice}

    @property
    def active_response_id(self) -> str | None:
        """The response being generated for the default conversation."""
        active = self._generation.active
        return None if active is None else active.id

    @property
    def items(self) -> list[Mapping[str, Any]]:
        """The conversation as heard, in wire shape, as the model is told it; sound only where its
        words are not known."""
        return list(self._tools.in_functions(self._conversation, sound=True))

    def take(self) -> list[Output]:
        return self._outbox.take()

    # Time

    def next_timer(self) -> float | None:
        """When `handle_timer` is due: the caller has then been silent for idle_timeout_ms."""
        return None if self._over else self._idle.due(self._config)

    def handle_timer(self, now: float) -> None:
        due = self.next_timer()
        if due is None or now < due:
            return
        self._idle.caller_spoke()
        self._turns.time_out(self._idle.from_ms)
        self._generation.try_start(session_response(self._config))

    def _watch(self, now: float) -> None:
        """Something happened that may begin or end the silence."""
        busy = self._generation.active is not None or self._playback.busy or self._turns.speaking
        self._idle.update(now, self._turns.heard_ms, busy=busy)

    # Clients

    def attach(self, client: str, now: float, *, extras: bool = False) -> None:
        """A connection joins: it alone gets session.created, with the session as it is.

        `extras`: it asked for the events that are not OpenAI's.
        """
        self._told_append[client] = False
        self._conversation.has_clients = True
        if extras:
            self._extras.add(client)
        self._outbox.send(events.session_created(self.session), client)

    def detach(self, client: str) -> None:
        self._told_append.pop(client, None)
        self._appended.pop(client, None)
        self._extras.discard(client)

    def receive(self, client: str, text: str | bytes, now: float) -> None:
        """One event of a client; what is wrong with it is told to that client only.

        Of a long append only the beginning is taken: the owner calls `go_on` for the rest, as soon
        as others have had their turn.
        """
        while self._take_piece(client):
            pass
        event_id: str | None = None
        try:
            event = client_events.parse(text)
            event_id = event.event_id
            self._dispatch(client, event, now)
        except RequestError as error:
            if isinstance(error, BadEvent) and error.event_id is not None:
                event_id = error.event_id
            self.refuse(client, event_id, error)
        self._watch(now)

    def go_on(self, client: str, now: float) -> bool:
        """Take the next piece of what `client` appended; whether there was one."""
        more = self._take_piece(client)
        self._watch(now)
        return more

    def refuse(self, client: str, event_id: str | None, error: RequestError) -> None:
        """Tell `client` alone that what its event `event_id` asked for is not done."""
        self._outbox.send(
            events.error(error.type, error.code, error.message, error.param, event_id), client
        )

    def _dispatch(self, client: str, event: AnyClientEvent, now: float) -> None:
        match event:
            case client_events.InputAudioAppend():
                self._append(client, event.audio)
            case client_events.SessionUpdate():
                self._update(_session(event.session))
            case client_events.TranscriptionSessionUpdate():
                self._update_beta(client, _session(event.session))
            case client_events.InputAudioCommit():
                self._turns.commit()
                self._idle.caller_spoke()
            case client_events.InputAudioClear():
                self._turns.clear()
            case client_events.OutputAudioClear():
                self._playback.clear()
            case client_events.ResponseCreate():
                self._create_response(event)
            case client_events.ResponseCancel():
                self._generation.cancel(event.response_id)
            case client_events.DtmfSend():
                self._send_digits(client, event)
            case (
                client_events.ItemCreate()
                | client_events.ItemRetrieve()
                | client_events.ItemTruncate()
                | client_events.ItemDelete()
            ):
                self._editing.receive(event, decode=self._decode, approval=self._answered)
            case _:
                assert_never(event)

    def _update(self, patch: Mapping[str, Any]) -> None:
        config = self._config.updated(
            patch,
            assistant_audio_exists=self._generation.audio_exists,
            strict_voice=self._policy.strict_voice,
        )
        # A response has the speed it was started with: any change is for the next one.
        faster = config.speed != self._config.speed
        if faster and self._policy.strict_voice and self._generation.active:
            raise speed_locked()
        self._config = self._formats.playable(config)
        self._turns.configure(self._config)
        self._outbox.put(ConfigChanged(self._config))
        self._outbox.send(events.session_updated(self.session))
        self._tools.configure(self._config.tools)

    def _update_beta(self, client: str, flat: Mapping[str, Any]) -> None:
        with beta.flat_names("transcription"):
            self._update(beta.read_session(flat, "transcription"))
        told = beta.write_session(self.session)
        self._outbox.send(events.transcription_session_updated(told), client)

    def _append(self, client: str, audio: str) -> None:
        if self._on_call:
            # A client that streams would otherwise get fifty errors a second.
            if not self._told_append.get(client):
                self._told_append[client] = True
                raise append_on_call()
            return
        self._turns.check_room()
        self._appended[client] = self._formats.append(audio, self._config)
        self._take_piece(client)

    def _take_piece(self, client: str) -> bool:
        pcm = next(self._appended.get(client, iter(())), None)
        if pcm is None:
            self._appended.pop(client, None)
            return False
        self._turns.audio_received(pcm)
        self._outbox.put(PushAudio(pcm))
        return True

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

    def _decode(self, audio: str, param: str) -> Pcm:
        return self._formats.decode(audio, param, self._config)

    # Extra events

    def transport_event(
        self, kind: str, now: float, fields: Mapping[str, Any] | None = None
    ) -> None:
        """What happened to the call, for clients that asked; `kind` begins with "transport."."""
        self._extras.tell(kind, fields or {})

    def _send_digits(self, client: str, event: client_events.DtmfSend) -> None:
        if client not in self._extras:
            raise unsupported("type", "transport.dtmf.send", OFFERED)
        if not self._on_call or self._over:
            raise no_call()
        self._outbox.put(SendDigits(keys_to_press(event.event), client, event.event_id))

    # The end

    def fail(self, code: str, message: str) -> None:
        """An error that is nobody's fault: told to every client."""
        kind = RequestError.type
        self._outbox.send(events.error(kind, code, message, None, None))

    def relay(self, event: dict[str, Any]) -> None:
        """An event that is the model's own; every client gets it."""
        self._outbox.send(event)

    def finish(self, now: float, *, reason: str = "") -> None:
        """The caller or the owner leaves: what is open is closed, and nothing new begins.

        The last event that clients with extras get is transport.ended with the `reason`.
        """
        if self._over:
            return
        self._over = True
        self._turns.speech_stopped(self._turns.heard_ms)
        self._playback.clear()
        self._playback.when_settled(self._generation.cancel_all)
        if self._on_call:
            told = {"reason": reason}
            self._playback.when_settled(lambda: self._extras.tell("transport.ended", told))

    # The caller

    def audio_received(self, pcm: Pcm, now: float) -> None:
        """Sound of the caller, on its way to the model too: the clock that speech is told in."""
        self._turns.audio_received(pcm)

    def speech_started(self, audio_ms: int, now: float) -> None:
        detection = self._config.turn_detection
        if self._turns.speech_started(audio_ms) and detection and detection.interrupt_response:
            self._generation.interrupt(_nothing)
        self._watch(now)

    def speech_stopped(self, audio_ms: int, now: float, *, answer: bool = True) -> None:
        """`answer` is false where the model begins its answer itself."""
        # What the caller heard comes before what was said to it.
        self._playback.when_settled(lambda: self._turn_ended(audio_ms, answer=answer))
        self._watch(now)

    def _turn_ended(self, audio_ms: int, *, answer: bool) -> None:
        if not self._turns.speech_stopped(audio_ms):
            return
        self._idle.caller_spoke()
        detection = self._config.turn_detection
        if answer and detection and detection.create_response:
            self._answer()

    def _answer(self) -> None:
        if self._config.type == "realtime" and not self._over:
            self._generation.start_or_owe(lambda: session_response(self._config))

    def transcript_delta(self, item_id: str, delta: str, logprobs: Logprobs = ()) -> None:
        self._turns.transcript_delta(item_id, well_formed(delta), logprobs)

    def transcript_completed(
        self, item_id: str, transcript: str, audio_s: float, logprobs: Logprobs = ()
    ) -> None:
        self._turns.transcript_completed(item_id, well_formed(transcript), audio_s, logprobs)

    def transcript_failed(self, item_id: str, message: str) -> None:
        self._turns.transcript_failed(item_id, message)

    def digits_collected(self, digits: str, now: float) -> None:
        """Keys that belong together are one thing said, which interrupts."""
        self._idle.restart()
        self._generation.interrupt(lambda: self._digit_turn(digits))
        self._watch(now)

    def digit(self, digit: str, received_at_unix: int, *, as_turn: bool, now: float) -> None:
        """A pressed key; `as_turn` makes it something the caller said, which interrupts."""
        self._outbox.send(events.dtmf_received(digit, received_at_unix))
        self._extras.tell("transport.dtmf.received", {"event": digit})
        self._idle.restart()
        if as_turn:
            self._generation.interrupt(lambda: self._digit_turn(digit))
        self._watch(now)

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
        response = self._generation.try_start(config)
        self._watch(now)
        return None if response is None else response.id

    def text_delta(self, response_id: str, delta: str, audio_ms: float | None = None) -> None:
        self._generation.add_text(response_id, well_formed(delta), audio_ms)

    def audio_delta(self, response_id: str, pcm: Pcm, coded: Coded | None = None) -> None:
        self._generation.add_audio(response_id, pcm, coded)

    def tool_call(self, response_id: str, tool_call_id: str, name: str, arguments: str) -> None:
        self._generation.add_tool_call(
            response_id, tool_call_id, well_formed(name), well_formed(arguments)
        )

    def inform(self, text: str, now: float) -> None:
        """Something happened that the model should know of and speak to."""
        self._turns.add(system_text(ItemId(self._new_id("item")), text))
        self._answer()
        self._watch(now)

    def tools_listed(self, label: str, tools: Sequence[Mapping[str, Any]] | None) -> None:
        """What a tool server offers, in the shape of mcp_list_tools; None: it cannot be asked."""
        self._tools.listed(label, tools)
        self._outbox.put(ConfigChanged(self._config))

    def tool_ran(
        self, item_id: str, output: str | None, error: Mapping[str, Any] | None, now: float
    ) -> None:
        """A CallTool ended with text, or with an error in the shape of mcp_call.error."""
        self._generation.tool_ran(item_id, output, error)
        self._watch(now)

    def _answered(self, item: Item) -> None:
        request = self._conversation.find(item.members["approval_request_id"])
        known = self._tools.knows(request.members["server_label"])
        if known and self._config.type == "realtime" and not self._over:
            self._generation.answered(
                request, lambda: session_response(self._config), yes=item.members["approve"]
            )

    def response_finished(
        self, response_id: str, reason: str | None, usage: Mapping[str, int], now: float
    ) -> None:
        self._generation.finish(response_id, reason, usage)
        self._watch(now)

    def response_failed(self, response_id: str, code: str, message: str, now: float) -> None:
        self._generation.fail(response_id, code, message)
        self._watch(now)

    # The playout of a call; `key` is the item id that Play named

    def playback_started(self, key: str) -> None:
        self._playback.started(key)

    def playback_finished(self, key: str, now: float) -> None:
        self._playback.finished(key)
        self._watch(now)

    def playback_cut(self, key: str, played_ms: int, now: float) -> None:
        self._playback.cut(key, played_ms)

    def playout_cleared(self, now: float) -> None:
        """All cuts of the last ClearPlayout were told; what had no cut was fully heard."""
        self._playback.cleared()
        self._watch(now)


def _session(raw: Raw | UnsetType) -> dict[str, Any]:
    return decode_object(raw, "session", most=MAX_SESSION)


def _nothing() -> None:
    pass
