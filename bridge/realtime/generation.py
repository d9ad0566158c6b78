"""The responses of a session: one at a time for the conversation, others beside it."""

from collections.abc import Callable, Mapping

from bridge.errors import RequestError
from bridge.ids import ItemId, ResponseId
from bridge.realtime import server_events as events
from bridge.realtime.conversation import Conversation
from bridge.realtime.errors import active_response, cancel_not_active
from bridge.realtime.idle import Idle
from bridge.realtime.input_buffer import SAMPLES_PER_MS
from bridge.realtime.items import Item, mcp_approval_request, mcp_call
from bridge.realtime.outbox import Outbox
from bridge.realtime.outputs import CallTool, CancelResponse, CancelTool, Coded, Pcm, StartResponse
from bridge.realtime.playback import Playback
from bridge.realtime.response import Ending, Response, ResponseConfig
from bridge.realtime.session_config import SessionConfig
from bridge.realtime.tool_servers import ToolServers
from bridge.realtime.window import Window, prompt_tokens

SAMPLES_PER_TOKEN = 50 * SAMPLES_PER_MS
CHARACTERS_PER_TOKEN = 4

MAX_ROUNDS = 16  # of tools that call for more tools, within one response

_INCOMPLETE = ("max_output_tokens", "content_filter")


def session_response(config: SessionConfig) -> ResponseConfig:
    """A response without overrides."""
    return ResponseConfig(
        instructions=config.instructions,
        tools=config.tools,
        tool_choice=config.tool_choice,
        output_modalities=config.output_modalities,
        voice=config.voice,
        speed=config.speed,
        output_format=config.output_format,
        max_output_tokens=config.max_output_tokens,
        truncation=config.truncation,
    )


class Generation:
    """Events of a response that ended or was told to stop are ignored: they crossed the order."""

    def __init__(
        self,
        conversation: Conversation,
        outbox: Outbox,
        playback: Playback,
        *,
        new_id: Callable[[str], str],
        encoder: Callable[[Mapping[str, object]], Callable[[Pcm], bytes] | None],
        idle: Idle,
        max_input_tokens: int,
        tools: ToolServers,
    ) -> None:
        self.active: Response | None = None
        self.audio_exists = False
        """The assistant has spoken: its voice is settled."""
        self._conversation = conversation
        self._outbox = outbox
        self._playback = playback
        self._new_id = new_id
        self._encoder = encoder
        self._idle = idle
        self._tools = tools
        self._approved: list[Item] = []
        self._max_input_tokens = max_input_tokens
        self._window = Window(max_input_tokens)
        self._responses: dict[str, Response] = {}
        self._owed: Callable[[], ResponseConfig] | None = None

    def start(self, config: ResponseConfig) -> Response:
        """Raises RequestError if the conversation has an active response or is too long."""
        if config.in_conversation and self.active is not None:
            raise active_response(self.active.id)
        context = self._context(config)
        response = Response(
            ResponseId(self._new_id("resp")),
            config,
            self._conversation,
            self._outbox,
            self._new_id,
            self._encoder(config.output_format),
            context,
        )
        self._responses[response.id] = response
        if config.in_conversation:
            self.active = response
        response.open()
        if config.in_conversation and self._approved:
            self._run_approved(response)
        else:
            self._generate(response)
        return response

    def _generate(self, response: Response) -> None:
        config = response.config
        limit = config.max_output_tokens
        # A tool that was asked for by name has been called by the second round.
        choice = self._tools.choice(config.tool_choice) if not response.rounds else "auto"
        self._outbox.put(
            StartResponse(
                response_id=response.id,
                items=self._tools.in_functions((*response.context, *response.output)),
                instructions=config.instructions,
                tools=self._tools.functions(config.tools),
                tool_choice=choice,
                output_modalities=config.output_modalities,
                voice=config.voice,
                speed=config.speed,
                max_output_tokens=limit if isinstance(limit, int) else None,
                in_conversation=config.in_conversation,
                own_input=config.input is not None,
            )
        )

    def start_or_owe(self, config: Callable[[], ResponseConfig]) -> None:
        """Answer a turn now, or when the active response is done: a caller is not left waiting."""
        if self.active is None:
            self._owed = None
            self.try_start(config())
        else:
            self._owed = config

    def try_start(self, config: ResponseConfig) -> Response | None:
        """A response that no client asked for: what forbids it is told to all."""
        try:
            return self.start(config)
        except RequestError as error:
            self._outbox.send(
                events.error(error.type, error.code, error.message, error.param, None)
            )
            return None

    def interrupt(self, then: Callable[[], None]) -> None:
        """Stop what is generated for the conversation and all that is played, then `then`."""
        response = self.active
        self._owed = None

        def settled() -> None:
            if response is not None and response.id in self._responses:
                self._end(response, Ending("cancelled", "turn_detected"), {})
            then()

        self._playback.clear()
        if response is not None and not response.cancelling:
            response.cancelling = True
            self._outbox.put(CancelResponse(response.id))
        self._playback.when_settled(settled)

    def cancel(self, response_id: str | None) -> None:
        """Raises RequestError if no such response is being generated."""
        response = self.active if response_id is None else self._responses.get(response_id)
        if response is None or response.cancelling:
            raise cancel_not_active()
        self._outbox.put(CancelResponse(response.id))
        self._end(response, Ending("cancelled", "client_cancelled"), {})

    def cancel_all(self) -> None:
        """Nobody is left to hear them."""
        self._owed = None
        for response in list(self._responses.values()):
            if not response.cancelling:
                self._outbox.put(CancelResponse(response.id))
            self._end(response, Ending("cancelled", "client_cancelled"), {})

    def find(self, response_id: str) -> Response | None:
        response = self._responses.get(response_id)
        return None if response is None or response.cancelling else response

    def add_text(self, response_id: str, delta: str, audio_ms: float | None = None) -> None:
        if (response := self.find(response_id)) is None:
            return
        left = response.tokens_left
        if left is None or len(delta) <= left * CHARACTERS_PER_TOKEN:
            response.add_text(delta, audio_ms)
            return
        response.add_text(delta[: left * CHARACTERS_PER_TOKEN], audio_ms)
        self._exhaust(response)

    def add_audio(self, response_id: str, pcm: Pcm, coded: Coded | None) -> None:
        if (response := self.find(response_id)) is None:
            return
        left = response.tokens_left if response.audio_expected else None
        full = left is not None and len(pcm) > left * SAMPLES_PER_TOKEN
        if left is not None:
            pcm = pcm[: left * SAMPLES_PER_TOKEN]
        if full:
            coded = None
        item_id = response.add_audio(pcm)
        if item_id is not None:
            self.audio_exists = True
            if response.encode is None:
                self._playback.play(response, item_id, pcm, coded)
        if full:
            self._exhaust(response)

    def add_tool_call(self, response_id: str, tool_call_id: str, name: str, arguments: str) -> None:
        if (response := self.find(response_id)) is None:
            return
        target = self._tools.target(name)
        if target is None:
            response.add_tool_call(tool_call_id, name, arguments)
            return
        whose = (tool_call_id, target.server_label, target.name)
        if target.needs_approval:
            item_id = ItemId(self._new_id("mcpr"))
            response.add_item(mcp_approval_request(item_id, *whose, arguments))
        else:
            self._run(response, mcp_call(ItemId(self._new_id("mcp")), *whose), arguments)

    def _run(self, response: Response, item: Item, arguments: str) -> None:
        response.run_tool(item, arguments)
        label, name = item.members["server_label"], item.members["name"]
        self._outbox.put(CallTool(item.id, label, name, arguments, response.id))

    def _run_approved(self, response: Response) -> None:
        """The calls themselves were thought of before: the model goes on with their answers."""
        response.generating = False
        approved, self._approved = self._approved, []
        for request in approved:
            label, name = request.members["server_label"], request.members["name"]
            item = mcp_call(ItemId(self._new_id("mcp")), request.tool_call_id, label, name)
            item.members["approval_request_id"] = request.id
            self._run(response, item, request.members["arguments"])

    def answered(self, request: Item, config: Callable[[], ResponseConfig], *, yes: bool) -> None:
        """A client has said whether the call that `request` asks for may be made."""
        if yes:
            self._approved.append(request)
        self.start_or_owe(config)

    def tool_ran(
        self, item_id: str, output: str | None, error: Mapping[str, object] | None
    ) -> None:
        for response in self._responses.values():
            if item_id in response.running:
                response.tool_ran(item_id, output, error)
                self._go_on(response)
                return

    def _go_on(self, response: Response) -> None:
        """With what the tools said, once all have, unless a client has to answer too."""
        if response.generating or response.running or response.cancelling:
            return
        if not response.unread or response.awaits_client or response.rounds >= MAX_ROUNDS:
            self._end(response, Ending("completed"), {})
            return
        item_id = response.end_message()
        if item_id is not None:
            self._playback.finish_item(item_id)
        response.rounds += 1
        response.generating, response.unread = True, False
        self._generate(response)

    def finish(self, response_id: str, reason: str | None, usage: Mapping[str, int]) -> None:
        if (response := self.find(response_id)) is not None:
            if reason in _INCOMPLETE:
                self._end(response, Ending("incomplete", reason), usage)
                return
            response.generating = False
            response.used.update(usage)
            self._go_on(response)

    def _exhaust(self, response: Response) -> None:
        """The model said more than it was allowed to."""
        self._outbox.put(CancelResponse(response.id))
        self._end(response, Ending("incomplete", "max_output_tokens"), {})

    def fail(self, response_id: str, code: str, message: str) -> None:
        if (response := self.find(response_id)) is not None:
            self._end(response, Ending("failed", error=(code, message)), {})

    def _end(self, response: Response, ending: Ending, usage: Mapping[str, int]) -> None:
        del self._responses[response.id]
        if self.active is response:
            self.active = None
        for item_id in response.running:
            self._outbox.put(CancelTool(ItemId(item_id)))
        response.close(ending, usage)
        self._playback.finish(response)
        if response.config.in_conversation:
            self._idle.answered(0 if response.encode is None else response.spoken_ms)
        if self.active is None and self._owed is not None:
            self.start_or_owe(self._owed)

    def _context(self, config: ResponseConfig) -> tuple[Item, ...]:
        prompt = prompt_tokens(config.instructions, config.tools)
        if config.input is None:
            return self._window.fit(self._conversation, config.truncation, prompt)
        return Window(self._max_input_tokens).fit(config.input, config.truncation, prompt)
