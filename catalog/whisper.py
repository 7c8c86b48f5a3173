"""Whisper: load one, and let it transcribe or name the language.

Greedy decoding with transformers' `generate` and the model's own generation config; the language is always given,
never guessed. Sound longer than the model's window is cut at quiet places, and what it says is joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from catalog.context import Context, context_frames, encode, window_frames
from catalog.errors import PdidError, UsageError
from catalog.records import RATE, Span
from catalog.whisper_files import DEFAULT_WHISPER, obtain_whisper, weights_hash

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Progress = Callable[[float], None]
"""Called with the share of the work that is done, 0 to 1."""

HOP = RATE // 100
"""Samples from one log-mel frame to the next."""

ENGLISH_ONLY_VOCABULARY = 51_864
"""Tokens of OpenAI's English-only models; the multilingual ones have one more or two."""


class FeatureSource(Protocol):
    """Log-mels by index: (features float32 (n_mels, window), valid frames). A list of such pairs is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Floats, int]: ...


@dataclass(frozen=True, slots=True)
class Whisper:
    """A loaded Whisper with what turns sound into its input and its output into text."""

    model: Any  # transformers' WhisperForConditionalGeneration, in evaluation mode
    feature_extractor: Any  # WhisperFeatureExtractor
    tokenizer: Any  # WhisperTokenizer
    name: str
    version: str  # the name and the first 8 hex digits of the weights' SHA-256

    @property
    def window_s(self) -> float:
        """Seconds of sound the model takes at once: 30 for the published ones."""
        return window_frames(self.model) * HOP / RATE

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def is_multilingual(self) -> bool:
        """Whether the model is told its language; English-only ones (`whisper-tiny.en`) are not."""
        return bool(self.model.generation_config.is_multilingual)

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages the model knows, such as en and fa."""
        if not self.is_multilingual:
            return ("en",)
        return tuple(token.strip("<|>") for token in self.model.generation_config.lang_to_id)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a model heard in one clip."""

    text: str  # as the model wrote it, without the spaces around
    logprob: float  # natural logarithm, the mean over its tokens with the end-of-text one; 0 is certainty
    n_tokens: int  # the end-of-text token included
    cut_off: bool  # the model ran into its limit of tokens (448) before it came to an end
    heard: str | None = None  # the likeliest language of the first window; None where it was not asked for


def load_whisper(model: str | Path = DEFAULT_WHISPER, device: str | None = None, dtype: str | None = None) -> Whisper:
    """A Whisper by folder, size, name under `$PDID_MODELS` or hub repository, in evaluation mode.

    `device` is torch's name (cpu, cuda, cuda:1), by default the GPU where there is one. `dtype` is torch's name
    (float32, bfloat16, float16), by default float32. Attention is PyTorch's scaled-dot-product.
    Raises UsageError for a folder that is not there or holds no Whisper, and PdidError where the model is missing
    and can't be downloaded, or its files are damaged: each says what to do.
    """
    import torch
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

    found = obtain_whisper(str(model))
    try:
        with quiet_transformers():
            network: Any = WhisperForConditionalGeneration.from_pretrained(
                found.folder,
                dtype=getattr(torch, dtype or "float32"),
                attn_implementation="sdpa",
                local_files_only=True,
                weights_only=True,
            )
            extractor = WhisperFeatureExtractor.from_pretrained(found.folder, local_files_only=True)
            tokenizer = WhisperTokenizer.from_pretrained(found.folder, local_files_only=True)
    except Exception as error:  # transformers, tokenizers and safetensors each raise their own for a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PdidError(f"the Whisper model in {found.folder} can't be loaded: {reason}") from error
    expected, given = window_frames(network) * HOP, int(extractor.n_samples)
    if (expected, RATE) != (given, extractor.sampling_rate):
        raise PdidError(
            f"the Whisper model in {found.folder} takes {expected} samples at {RATE} Hz, but its feature extractor "
            f"gives {given} at {extractor.sampling_rate} Hz: the two files belong to different models"
        )
    complete_generation_config(network, tokenizer)
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    version = f"{found.name} {weights_hash(found.folder)[:8]}"
    return Whisper(network.to(chosen).eval(), extractor, tokenizer, found.name, version)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' progress bars and warnings: of loading, and of what its own `generate` passes to itself."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def complete_generation_config(model: Any, tokenizer: Any) -> None:
    """Set what `generate` needs and an old or home-made folder may lack; an official config stays as it is."""
    config = model.generation_config
    if getattr(config, "max_length", None) in (None, 20):  # 20 is what transformers takes where a config says nothing
        config.max_length = model.config.max_target_positions
    if getattr(config, "is_multilingual", None) is None:
        config.is_multilingual = model.config.vocab_size != ENGLISH_ONLY_VOCABULARY
    vocabulary = tokenizer.get_vocab()
    if getattr(config, "no_timestamps_token_id", None) is None:
        config.no_timestamps_token_id = vocabulary["<|notimestamps|>"]
    if config.is_multilingual and not getattr(config, "lang_to_id", None):
        # Whisper's special tokens stand in this order: end, start, the languages, translate, transcribe, …
        start, end = vocabulary["<|startoftranscript|>"], vocabulary["<|translate|>"]
        names = sorted((index, token) for token, index in vocabulary.items() if start < index < end)
        config.lang_to_id = {token: index for index, token in names}
    if config.is_multilingual and not getattr(config, "task_to_id", None):
        config.task_to_id = {task: vocabulary[f"<|{task}|>"] for task in ("transcribe", "translate")}


def check_language(whisper: Whisper, language: str | None) -> str | None:
    """The code of a language the model knows (`Persian` becomes `fa`), or None for an English-only model.

    Raises UsageError where a multilingual model is given none, or a model one that it does not know.
    """
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    known = ", ".join(whisper.languages)
    if language is None:
        if whisper.is_multilingual:
            raise UsageError(f"{whisper.name} must be told the language (--language); it knows {known}")
        return None
    code = language.strip().lower()
    code = TO_LANGUAGE_CODE.get(code, code)
    if code not in whisper.languages:
        raise UsageError(f"{whisper.name} does not know the language {language!r}; it knows {known}")
    return code if whisper.is_multilingual else None


def prompt_tokens(whisper: Whisper, language: str | None) -> list[int]:
    """The tokens a transcript begins with: start, and for a multilingual model language and task; no timestamps."""
    config = whisper.model.generation_config
    code = check_language(whisper, language)
    middle = [config.lang_to_id[f"<|{code}|>"], config.task_to_id["transcribe"]] if code else []
    return [int(config.decoder_start_token_id), *middle, int(config.no_timestamps_token_id)]


# ---------------------------------------------------------------- transcribing


def transcribe(
    whisper: Whisper,
    sounds: Sequence[Floats],
    language: str | None,
    *,
    batch_size: int = 8,
    context: Context = "full",
    hear_language: bool = False,
    progress: Progress = lambda share: None,
) -> list[Hypothesis]:
    """What is said in each sound: mono float32 (n,) at 16 kHz, of any length.

    A sound longer than the model's window is cut where it is quiet (`quiet_windows`); the texts are joined with a
    space, and the log-probability is the mean over all tokens. `hear_language` also says which language the model
    takes it for, as `detect_language` does, for the price of one token.
    Raises UsageError for a language the model does not know.
    """
    window = window_frames(whisper.model) * HOP
    spans = [(i, span) for i, sound in enumerate(sounds) for span in quiet_windows(sound, window)]
    order = sorted(range(len(spans)), key=lambda k: len(spans[k][1]))  # alike in length: little padding, few idle steps
    said: dict[int, Hypothesis] = {}
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        parts = [sounds[spans[k][0]][spans[k][1].start : spans[k][1].end] for k in batch]
        features = whisper.feature_extractor(parts, sampling_rate=RATE, return_tensors="np")["input_features"]
        n_valid = [-(-len(part) // HOP) for part in parts]
        said.update(zip(batch, _decode(whisper, features, n_valid, language, context, hear_language), strict=True))
        progress(min(1.0, (first + len(batch)) / len(order)))
    pieces: list[list[Hypothesis]] = [[] for _ in sounds]
    for k, (i, _) in enumerate(spans):
        pieces[i].append(said[k])
    return [_join(parts) for parts in pieces]


def transcribe_features(
    whisper: Whisper,
    features: FeatureSource,
    language: str | None,
    *,
    batch_size: int = 8,
    context: Context = "full",
    progress: Progress = lambda share: None,
) -> list[Hypothesis]:
    """What is said in each clip, from log-mels: (n_mels, window) float32 with the number of its valid frames.

    The items are read one batch at a time, in the order given.
    Raises UsageError for a language the model does not know.
    """
    said: list[Hypothesis] = []
    for first in range(0, len(features), batch_size):
        batch = [features[i] for i in range(first, min(first + batch_size, len(features)))]
        n_valid = [n for _, n in batch]
        said += _decode(whisper, np.stack([mel for mel, _ in batch]), n_valid, language, context)
        progress(len(said) / len(features))
    return said


def _decode(
    whisper: Whisper,
    features: Floats,
    n_valid: Sequence[int],
    language: str | None,
    context: Context,
    hear_language: bool = False,
) -> list[Hypothesis]:
    """Greedy decoding of one batch: log-mels float32 (batch, n_mels, window)."""
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    model, config = whisper.model, whisper.model.generation_config
    code = check_language(whisper, language)
    asked = {"language": code, "task": "transcribe"} if code else {}
    record = _Record()
    with torch.inference_mode(), quiet_transformers():
        frames = context_frames(model, n_valid, context)
        inputs = torch.from_numpy(np.ascontiguousarray(features[..., :frames], np.float32))
        hidden = encode(model, inputs.to(whisper.device, whisper.dtype))
        heard = [language for language, _ in _likeliest(whisper, hidden)] if hear_language else [None] * len(hidden)
        model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            return_timestamps=False,
            do_sample=False,
            num_beams=1,
            logits_processor=[record],
            **asked,
        )
    tokens, logprobs = torch.stack(record.tokens, 1).tolist(), torch.stack(record.logprobs, 1).tolist()
    said = []
    for row, probabilities, likeliest in zip(tokens, logprobs, heard, strict=True):
        ended = config.eos_token_id in row
        n = row.index(config.eos_token_id) + 1 if ended else len(row)
        text = whisper.tokenizer.decode(row[:n], skip_special_tokens=True).strip()
        said.append(Hypothesis(text, sum(probabilities[:n]) / n, n, not ended, likeliest))
    return said


class _Record:
    """Stands last among generate's logits processors and keeps each step's best token and its log-probability.

    With greedy decoding that token is the one taken. Asking `generate` for its scores instead would keep the whole
    vocabulary of every step: over a gigabyte for a batch of long clips.
    """

    def __init__(self) -> None:
        self.tokens: list[torch.Tensor] = []
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        best, token = scores.float().log_softmax(-1).max(-1)
        self.tokens.append(token)
        self.logprobs.append(best)
        return scores


def _join(parts: list[Hypothesis]) -> Hypothesis:
    n = sum(part.n_tokens for part in parts)
    logprob = sum(part.logprob * part.n_tokens for part in parts) / n
    text = " ".join(part.text for part in parts if part.text)
    return Hypothesis(text, logprob, n, any(part.cut_off for part in parts), parts[0].heard)


def quiet_windows(sound: Floats, window: int) -> list[Span]:
    """Cut mono 16 kHz sound (n,) into spans of at most `window` samples, at its quietest places; they tile the sound.

    The quietest 0.2 s of the second half of each window is where it ends, so that words are seldom cut.
    """
    spans: list[Span] = []
    start = 0
    while len(sound) - start > window:
        # at least a quarter of a window stays for the last span: of a tiny one a Whisper makes things up
        low, high = start + window // 2, min(start + window, len(sound) - window // 4)
        frames = sound[low : low + (high - low) // HOP * HOP].reshape(-1, HOP).astype(np.float64)
        width = min(20, len(frames))
        power = np.convolve((frames**2).mean(1), np.ones(width) / width, mode="valid")
        cut = low + (int(np.argmin(power)) * 2 + width) * HOP // 2
        spans.append(Span(start, cut))
        start = cut
    return [*spans, Span(start, len(sound))]


# ---------------------------------------------------------------- languages


def detect_language(whisper: Whisper, sounds: Sequence[Floats], *, batch_size: int = 8) -> list[tuple[str, float]]:
    """The likeliest language of each sound, float32 (n,) at 16 kHz, and its probability among those the model knows.

    Only the first window is heard, as in OpenAI's `detect_language`. An English-only model says en with certainty.
    """
    import torch

    if not whisper.is_multilingual:
        return [("en", 1.0) for _ in sounds]
    window = window_frames(whisper.model) * HOP
    found: list[tuple[str, float]] = []
    for first in range(0, len(sounds), batch_size):
        batch = [sound[:window] for sound in sounds[first : first + batch_size]]
        features = whisper.feature_extractor(batch, sampling_rate=RATE, return_tensors="pt")["input_features"]
        with torch.inference_mode():
            found += _likeliest(whisper, encode(whisper.model, features.to(whisper.device, whisper.dtype)))
    return found


def _likeliest(whisper: Whisper, hidden: torch.Tensor) -> list[tuple[str, float]]:
    """The likeliest language and its probability, by the encoder's states (batch, frames, width) of each sound."""
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    if not whisper.is_multilingual:
        return [("en", 1.0)] * len(hidden)
    config = whisper.model.generation_config
    start = torch.full((len(hidden), 1), config.decoder_start_token_id, device=whisper.device)
    output = BaseModelOutput(last_hidden_state=hidden)
    logits = whisper.model(encoder_outputs=output, decoder_input_ids=start, use_cache=False).logits
    chances, best = logits[:, -1, list(config.lang_to_id.values())].float().softmax(-1).max(-1)
    return [(whisper.languages[i], chance) for i, chance in zip(best.tolist(), chances.tolist(), strict=True)]
