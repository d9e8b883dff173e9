"""Ray's token authentication: the token's file, and the environment that makes a process use it. Never reads a token.

Ray takes a token from `RAY_AUTH_TOKEN`, else from the file that `RAY_AUTH_TOKEN_PATH` names. Both need
`RAY_AUTH_MODE=token`, and all of them must be set before a process first imports ray.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import MutableMapping
from pathlib import Path

MODE = "RAY_AUTH_MODE"
TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 (the variable's name)
TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 (the variable's name)


def is_disabled() -> bool:
    """Whether the user has turned authentication off by `RAY_AUTH_MODE`."""
    return os.environ.get(MODE, "").lower() == "disabled"


def prepare_token(folder: Path) -> str | None:
    """Create the token's file in a folder, unless it exists or the user names another; only its owner can read it.

    Returns:
        Path of the file; None if the user has set the token itself, or turned authentication off.
    """
    if is_disabled() or os.environ.get(TOKEN):
        return None
    path = Path(os.environ.get(TOKEN_PATH) or folder / "ray_token").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return str(path)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return str(path)


def use_token(environment: MutableMapping[str, str], path: str | None) -> None:
    """Turn token authentication on in an environment; values that the user has set stay."""
    environment.setdefault(MODE, "token")
    if path is not None and not environment.get(TOKEN):
        environment.setdefault(TOKEN_PATH, path)
