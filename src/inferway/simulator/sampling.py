"""What vLLM refuses about prompts, lengths and sampling once a body has the right types.

The order of the checks is vLLM's: first what its request models look at, then (after the model was
found and the prompt was cut up) what its sampling parameters look at.
"""

from __future__ import annotations

from inferway.simulator.errors import ApiError, bad_value
from inferway.simulator.requests import ChatRequest, CompletionRequest, Sampling

# vLLM's default of VLLM_MAX_N_SEQUENCES.
CHOICES_MAX = 16_384
# vLLM's default of --max-logprobs.
LOGPROBS_MAX = 20
# Below it vLLM takes the likeliest token, and several answers would be the same.
_GREEDY_TEMPERATURE = 1e-5


def check_model(request: Sampling) -> None:
    """What is refused before anything else is looked at. Raises ApiError."""
    if request.cache_salt is not None and (
        not isinstance(request.cache_salt, str) or not request.cache_salt
    ):
        raise bad_value(
            "Parameter 'cache_salt' must be a non-empty string if provided.", "cache_salt"
        )
    wanted = request.response_format
    if wanted is not None and wanted.type == "json_schema" and wanted.json_schema is None:
        raise bad_value(
            "When response_format type is 'json_schema', the 'json_schema' field must be provided.",
            "response_format",
        )
    if request.prompt_logprobs is not None:
        if request.stream and request.prompt_logprobs != 0:
            raise bad_value(
                "`prompt_logprobs` are not available when `stream=True`.", "prompt_logprobs"
            )
        if request.prompt_logprobs < -1:
            raise bad_value(
                "`prompt_logprobs` must be a positive value or -1.",
                "prompt_logprobs",
                request.prompt_logprobs,
            )
    if request.stream_options is not None and not request.stream:
        raise bad_value("Stream options can only be defined when `stream=True`.", "stream_options")


def check_completion(request: CompletionRequest) -> None:
    """The request model of completions. Raises ApiError."""
    check_model(request)
    if request.logprobs is not None and request.logprobs < -1:
        raise bad_value("`logprobs` must be a positive value or -1.", "logprobs", request.logprobs)
    if request.prompt is None or request.prompt == "":
        raise bad_value("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")


def check_chat(request: ChatRequest) -> None:
    """The request model of chats. Raises ApiError."""
    check_model(request)
    top = request.top_logprobs
    if top:
        if top < -1:
            raise bad_value("`top_logprobs` must be a positive value or -1.", "top_logprobs", top)
        if not request.logprobs:
            raise bad_value(
                "when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs"
            )
    if request.tools is not None and not request.tools:
        raise bad_value(
            "`tools` must not be an empty array. Either provide at least one tool or omit the "
            "field entirely.",
            "tools",
        )
    if request.continue_final_message and request.add_generation_prompt:
        raise ApiError(
            "continue_final_message and add_generation_prompt are not compatible. Use "
            "continue_final_message when you want the model to continue the final message, and "
            "add_generation_prompt when you want to add a header that will prompt it to start a "
            "new assistant message instead."
        )
    _check_tool_choice(request)


def _check_tool_choice(request: ChatRequest) -> None:
    choice = request.tool_choice
    if choice in (None, "none"):
        return
    if not request.tools:
        raise bad_value("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if isinstance(choice, str) and choice not in ("auto", "required"):
        raise bad_value(
            f'Invalid value for `tool_choice`: {choice}! Only named tools, "none", "auto" or '
            '"required" are supported.',
            "tool_choice",
        )
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        known = [tool.get("function", {}).get("name") for tool in request.tools
                 if isinstance(tool, dict)]  # fmt: skip
        if wanted not in known:
            raise bad_value(
                "The tool specified in `tool_choice` does not match any of the specified `tools`",
                "tool_choice",
            )


def check_tools(request: ChatRequest) -> None:
    """A model that picks tools needs a parser, which is not configured here. Raises ApiError."""
    if request.tools and request.tool_choice in (None, "auto"):
        raise ApiError(
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        )


def check_sampling(request: Sampling, limit: int, logprobs: int | None) -> None:
    """What vLLM's sampling parameters refuse; ``limit`` is the number of tokens to generate.

    Raises ApiError.
    """
    _check_ranges(request)
    if limit < 1:
        raise bad_value(f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit)
    if request.min_tokens < 0:
        raise ApiError(f"min_tokens must be greater than or equal to 0, got {request.min_tokens}.")
    if request.min_tokens > limit:
        raise ApiError(
            f"min_tokens must be less than or equal to max_tokens={limit}, got "
            f"{request.min_tokens}."
        )
    if "" in stop_texts(request):
        raise ApiError("stop cannot contain an empty string.")
    greedy = request.temperature is not None and request.temperature < _GREEDY_TEMPERATURE
    if greedy and request.n > 1:
        raise ApiError(f"n must be 1 when using greedy sampling, got {request.n}.")
    if logprobs is not None and logprobs > LOGPROBS_MAX:
        raise bad_value(
            f"Requested sample logprobs of {logprobs}, which is greater than max allowed: "
            f"{LOGPROBS_MAX}",
            "logprobs",
            logprobs,
        )
    if request.allowed_token_ids is not None and not request.allowed_token_ids:
        raise bad_value("allowed_token_ids is not None and empty!", "allowed_token_ids", [])


def _check_ranges(request: Sampling) -> None:
    if request.n < 1:
        raise ApiError(f"n must be at least 1, got {request.n}.")
    if request.n > CHOICES_MAX:
        raise ApiError(
            f"n must be at most {CHOICES_MAX}, got {request.n}. To increase this limit, set the "
            "VLLM_MAX_N_SEQUENCES environment variable."
        )
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(request, name)
        if value is not None and not -2.0 <= value <= 2.0:
            raise ApiError(f"{name} must be in [-2, 2], got {value}.")
    penalty = request.repetition_penalty
    if penalty is not None and penalty <= 0.0:
        raise ApiError(f"repetition_penalty must be greater than zero, got {penalty}.")
    heat = request.temperature
    if heat is not None and heat < 0.0:
        raise bad_value(f"temperature must be non-negative, got {heat}.", "temperature", heat)
    top_p = request.top_p
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise bad_value(f"top_p must be in (0, 1], got {top_p}.", "top_p", top_p)
    if request.top_k is not None and request.top_k < -1:
        raise ApiError(f"top_k must be 0 (disable), or at least 1, got {request.top_k}.")
    if request.min_p is not None and not 0.0 <= request.min_p <= 1.0:
        raise ApiError(f"min_p must be in [0, 1], got {request.min_p}.")


def stop_texts(request: Sampling) -> tuple[str, ...]:
    """Stop strings."""
    stop = request.stop
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def output_limit(wanted: int | None, prompt: int, model: int) -> int:
    """Tokens to generate: what is wanted, at most what the model has room for.

    Raises ApiError where a prompt does not fit, or more is wanted than the model has.
    """
    if wanted is not None and wanted > model:
        raise bad_value(
            f"max_tokens={wanted} cannot be greater than max_model_len={model}. Please request "
            "fewer output tokens.",
            "max_tokens",
            wanted,
        )
    if prompt > model:
        raise bad_value(
            f"This model's maximum context length is {model} tokens. However, your prompt contains "
            f"{prompt} input tokens, which exceeds this limit even without any output tokens. "
            "Please reduce the length of the input prompt.",
            "input_tokens",
            prompt,
        )
    room = model - prompt
    return room if wanted is None else min(wanted, room)


def check_characters(text: str, model: int, per_token: int) -> None:
    """Refuses a text that cannot fit the model before it is cut up, because cutting up megabytes
    would hold up everybody else. Raises ApiError.
    """
    bound = model * per_token
    if len(text) > bound:
        raise bad_value(
            f"This model's maximum context length is {model} tokens. However, your prompt contains "
            f"{len(text)} characters (more than {bound} characters, which is the upper bound for "
            f"{model} input tokens). Please reduce the length of the input prompt.",
            "input_text",
            len(text),
        )


def check_truncation(keep: int | None, model: int) -> None:
    """Raises ApiError."""
    if keep is not None and keep > model:
        raise bad_value(
            f"truncate_prompt_tokens={keep} cannot be greater than max_model_len = {model}. Please "
            "request a smaller truncation size.",
            "truncate_prompt_tokens",
            keep,
        )
