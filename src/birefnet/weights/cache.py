"""Where downloaded weights are kept, and whether anything may be downloaded.

Environment variables: BIREFNET_CACHE (folder), BIREFNET_OFFLINE and HF_HUB_OFFLINE (no downloads),
BIREFNET_MIRROR (a server with the same paths, asked first), HF_ENDPOINT (in place of
https://huggingface.co), HF_HUB_CACHE and HF_HOME (Hugging Face's own cache, which is read, never
written), HF_TOKEN and HF_TOKEN_PATH (for gated models).
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

HUB = "https://huggingface.co"
_TRUE = {"1", "true", "yes", "on"}


def cache_directory(override: str | os.PathLike[str] | None = None) -> Path:
    """The folder for downloads: `override`, BIREFNET_CACHE, or the user's cache folder."""
    chosen = override or os.environ.get("BIREFNET_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "birefnet" / "cache"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "birefnet"


def is_offline(flag: bool | None = None) -> bool:
    """Whether downloads are switched off, by `flag` or by the environment."""
    if flag is not None:
        return flag
    names = ("BIREFNET_OFFLINE", "HF_HUB_OFFLINE")
    return any(os.environ.get(name, "").strip().lower() in _TRUE for name in names)


def hub_endpoint() -> str:
    """Address of Hugging Face or of its stand-in (HF_ENDPOINT), without a slash at the end."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB


def mirrored(address: str) -> list[str]:
    """The addresses to try for `address`, in order: the mirror's, then its own."""
    own = address
    if address.startswith(f"{HUB}/"):
        own = hub_endpoint() + address[len(HUB) :]
    mirror = os.environ.get("BIREFNET_MIRROR", "").rstrip("/")
    if not mirror:
        return [own]
    parts = urlsplit(address)
    query = f"?{parts.query}" if parts.query else ""
    return list(dict.fromkeys([mirror + parts.path + query, own]))


def hub_cache_directory() -> Path:
    """Folder of Hugging Face's own cache."""
    chosen = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return _hub_home() / "hub"


def _hub_home() -> Path:
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface"


def hub_snapshot(repo: str, revision: str = "main") -> Path | None:
    """Folder of `repo` at `revision` in Hugging Face's cache, if it has been downloaded there."""
    root = hub_cache_directory() / ("models--" + repo.replace("/", "--"))
    commit = revision
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        try:
            commit = (root / "refs" / revision).read_text(encoding="utf-8").strip()
        except OSError:
            return None
    snapshot = root / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def hub_cached(
    repo: str,
    filename: str,
    revision: str = "main",
    *,
    bytes: int | None = None,
    sha256: str | None = None,
) -> Path | None:
    """A file in Hugging Face's cache, if it lies there with the size and checksum asked for.

    That cache names large files by their SHA-256, so the check reads no data.
    """
    snapshot = hub_snapshot(repo, revision)
    path = snapshot / filename if snapshot else None
    if path is None or not path.is_file():
        return None
    blob = path.resolve().name
    if sha256 and re.fullmatch(r"[0-9a-f]{64}", blob) and blob != sha256:
        return None
    if bytes is not None and path.stat().st_size != bytes:
        return None
    return path


def hub_token(address: str) -> str | None:
    """The token to send to `address`: HF_TOKEN, or the one stored by `hf auth login`; none to
    others than Hugging Face or its stand-in."""
    if not address.startswith(f"{hub_endpoint()}/"):
        return None
    token = os.environ.get("HF_TOKEN")
    if token:
        return token
    stored = os.environ.get("HF_TOKEN_PATH")
    try:
        path = Path(stored).expanduser() if stored else _hub_home() / "token"
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
