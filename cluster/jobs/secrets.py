"""Detects what looks like a secret: others can read a job's environment and command, so these may contain none."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..program.errors import UsageError

_NAME = re.compile(r"(?i)(token|key|key_id|secret|passw(or)?d|credentials?)$")
_VALUE = re.compile(
    r"(?<![A-Za-z0-9])"
    r"(hf_[A-Za-z0-9]{20,}|(AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|sk-[\w-]{20,})"
    r"|://[^/@\s]*:[^/@\s]+@"
    r"|[?&](X-Amz-(Signature|Security-Token)|sig)=|AccountKey="
)
_ASSIGNED = re.compile(r"([\w.-]+)=\S")  # anywhere in a word: it may be a line for another shell


def names_secret(name: str) -> bool:
    """Whether a variable or flag of this name contains a secret, as HF_TOKEN or --api-key."""
    return bool(_NAME.search(name))


def is_secret(value: str) -> bool:
    """Whether a value has the form of a secret, or is a URL that contains a password."""
    return bool(_VALUE.search(value))


def refuse_secrets(command: Iterable[str], right: str) -> None:
    """Refuse a command that contains a secret: everyone who may list jobs or processes can read it.

    Args:
        command: its words.
        right: what to do instead, for the message.

    Raises:
        UsageError: a word looks like a secret; the message does not repeat it.
    """
    for word in command:
        named = any(names_secret(name) for name in _ASSIGNED.findall(word))
        flag = word.startswith("--") and "=" not in word and names_secret(word)
        if named or flag or is_secret(word):
            raise UsageError(f"the command contains what looks like a secret, which others can read; {right}")
