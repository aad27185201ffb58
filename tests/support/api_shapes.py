"""The required fields of each API's answers, as its public documentation lists them.

Sources: OpenAI API reference ("The chat completion object", "The chat completion chunk object", "The
completion object", "The response object", "Streaming events", "The embedding object", "The transcription
object", "The model object"); Anthropic API reference ("Messages", "Streaming messages", "Errors"); vLLM
documentation ("OpenAI-Compatible Server", sections "Re-rank API" and "Score API"). Types are strict: a number
in a text is a mismatch. Fields beyond the documented ones are allowed, as the documents announce more.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


# Chat and completions of OpenAI


class Usage(Shape):
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count


class Function(Shape):
    name: str
    arguments: str


class ToolCall(Shape):
    id: str
    type: Literal["function"]
    function: Function


class ChatMessage(Shape):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    tool_calls: list[ToolCall]


class ChatChoice(Shape):
    index: Count
    message: ChatMessage
    logprobs: None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(Shape):
    id: str
    object: Literal["chat.completion"]
    created: Count
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ChunkFunction(Shape):
    name: str | None = None
    arguments: str


class ChunkToolCall(Shape):
    index: Count
    id: str | None = None
    type: Literal["function"] | None = None
    function: ChunkFunction


class Delta(Shape):
    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ChunkToolCall] = []


class ChunkChoice(Shape):
    index: Count
    delta: Delta
    finish_reason: Literal["stop", "length", "tool_calls"] | None


class ChatChunk(Shape):
    id: str
    object: Literal["chat.completion.chunk"]
    created: Count
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class TextChoice(Shape):
    index: Count
    text: str
    logprobs: None
    finish_reason: Literal["stop", "length"] | None


class Completion(Shape):
    id: str
    object: Literal["text_completion"]
    created: Count
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None


# Responses of OpenAI


class CachedTokens(Shape):
    cached_tokens: Count


class ReasoningTokens(Shape):
    reasoning_tokens: Count


class ResponseUsage(Shape):
    input_tokens: Count
    input_tokens_details: CachedTokens
    output_tokens: Count
    output_tokens_details: ReasoningTokens
    total_tokens: Count


class OutputText(Shape):
    type: Literal["output_text"]
    text: str
    annotations: list[Any]


class OutputMessage(Shape):
    type: Literal["message"]
    id: str
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"]
    content: list[OutputText]


class FunctionCall(Shape):
    type: Literal["function_call"]
    id: str
    call_id: str
    name: str
    arguments: str
    status: Literal["in_progress", "completed", "incomplete"]


OutputItem = Annotated[OutputMessage | FunctionCall, Field(discriminator="type")]


class Incomplete(Shape):
    reason: Literal["max_output_tokens", "content_filter"]


class Response(Shape):
    id: str
    object: Literal["response"]
    created_at: Count
    status: Literal["completed", "failed", "in_progress", "incomplete"]
    error: dict[str, Any] | None
    incomplete_details: Incomplete | None
    instructions: str | None
    max_output_tokens: Count | None
    metadata: dict[str, str]
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None


class _Numbered(Shape):
    sequence_number: Count


class ResponseState(_Numbered):
    type: Literal["response.created", "response.in_progress", "response.completed", "response.incomplete"]
    response: Response


class ItemEvent(_Numbered):
    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: Count
    item: OutputItem


class PartEvent(_Numbered):
    type: Literal["response.content_part.added", "response.content_part.done"]
    item_id: str
    output_index: Count
    content_index: Count
    part: OutputText


class TextDelta(_Numbered):
    type: Literal["response.output_text.delta"]
    item_id: str
    output_index: Count
    content_index: Count
    delta: str


class TextDone(_Numbered):
    type: Literal["response.output_text.done"]
    item_id: str
    output_index: Count
    content_index: Count
    text: str


class ArgumentsDelta(_Numbered):
    type: Literal["response.function_call_arguments.delta"]
    item_id: str
    output_index: Count
    delta: str


class ArgumentsDone(_Numbered):
    type: Literal["response.function_call_arguments.done"]
    item_id: str
    output_index: Count
    name: str
    arguments: str


class ResponseEvent(Shape):
    event: Annotated[
        ResponseState | ItemEvent | PartEvent | TextDelta | TextDone | ArgumentsDelta | ArgumentsDone,
        Field(discriminator="type"),
    ]


# Messages of Anthropic


class MessageUsage(Shape):
    input_tokens: Count
    cache_creation_input_tokens: Count | None
    cache_read_input_tokens: Count | None
    output_tokens: Count


class TextBlock(Shape):
    type: Literal["text"]
    text: str


class ToolUseBlock(Shape):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


Block = Annotated[TextBlock | ToolUseBlock, Field(discriminator="type")]
StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class Message(Shape):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    content: list[Block]
    model: str
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage


class MessageStart(Shape):
    type: Literal["message_start"]
    message: Message


class BlockStart(Shape):
    type: Literal["content_block_start"]
    index: Count
    content_block: Block


class TextBlockDelta(Shape):
    type: Literal["text_delta"]
    text: str


class InputJsonDelta(Shape):
    type: Literal["input_json_delta"]
    partial_json: str


class BlockDelta(Shape):
    type: Literal["content_block_delta"]
    index: Count
    delta: Annotated[TextBlockDelta | InputJsonDelta, Field(discriminator="type")]


class BlockStop(Shape):
    type: Literal["content_block_stop"]
    index: Count


class StopDelta(Shape):
    stop_reason: StopReason | None
    stop_sequence: str | None


class OutputUsage(Shape):
    output_tokens: Count


class MessageDelta(Shape):
    type: Literal["message_delta"]
    delta: StopDelta
    usage: OutputUsage


class Bare(Shape):
    type: Literal["ping", "message_stop"]


class MessageEvent(Shape):
    event: Annotated[
        MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | Bare, Field(discriminator="type")
    ]


class AnthropicErrorBody(Shape):
    type: str
    message: str


class AnthropicError(Shape):
    type: Literal["error"]
    error: AnthropicErrorBody


# The other APIs


class VllmErrorBody(Shape):
    message: str
    type: str
    param: str | None
    code: int


class VllmError(Shape):
    error: VllmErrorBody


class InputUsage(Shape):
    prompt_tokens: Count
    total_tokens: Count


class Embedding(Shape):
    object: Literal["embedding"]
    index: Count
    embedding: list[float] | str


class Embeddings(Shape):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: InputUsage


class RerankDocument(Shape):
    text: str | None


class RerankResult(Shape):
    index: Count
    document: RerankDocument
    relevance_score: Share


class Rerank(Shape):
    id: str
    model: str
    usage: InputUsage
    results: list[RerankResult]


class ScoreItem(Shape):
    index: Count
    object: Literal["score"]
    score: Share


class Scores(Shape):
    id: str
    object: Literal["list"]
    created: Count
    model: str
    data: list[ScoreItem]
    usage: InputUsage


class DurationUsage(Shape):
    type: Literal["duration"]
    seconds: Count


class Transcription(Shape):
    text: str
    usage: DurationUsage


class Segment(Shape):
    id: Count
    seek: Count
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: Share


class VerboseTranscription(Shape):
    language: str
    duration: float
    text: str
    segments: list[Segment]


class Model(Shape):
    id: str
    object: Literal["model"]
    created: Count
    owned_by: str


class Models(Shape):
    object: Literal["list"]
    data: list[Model]
