"""Checkpoints on the Hugging Face hub, by names such as hf://owner/name or hf://owner/name@revision.

Both our own format and published LeWM weights are fetched, and nothing else of the repository. The package
huggingface_hub (an extra) keeps them in its cache: a second time nothing is downloaded, and with
HF_HUB_OFFLINE=1 nothing is asked. Private repositories need `hf auth login`, once.
"""

from __future__ import annotations

import re
from pathlib import Path

from .checkpoint import CheckpointError

SCHEME = "hf://"
WEIGHTS = ["model.safetensors", "weights.safetensors", "weights.pt"]
FILES = ["config.json", *WEIGHTS, "reach.json", "looks.json"]


def is_remote(name: str | Path) -> bool:
    """Whether this names something on the hub."""
    return str(name).startswith(SCHEME)


def fetch(name: str) -> Path:
    """The folder, in the cache, with the files of hf://owner/name[@revision]; downloads what is not there.

    Raises CheckpointError that says what is wrong: the name, the network, the rights, or the extra.
    """
    found = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if found is None:
        raise CheckpointError(f"{name!r} names nothing on the hub: write hf://owner/name.")
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise CheckpointError(
            f"{name} is on the hub, which needs huggingface_hub: pip install 'latent-planner[hub]'."
        ) from error
    repo, revision = found.groups()
    try:
        folder = Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=FILES))
    except errors.GatedRepoError as error:
        raise CheckpointError(f"{name} asks for an agreement: accept it on its page, then log in.") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise CheckpointError(
            f"There is no {name} on the hub, or it is private: check the name, or log in with hf auth login."
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"{name} is not in the cache and the hub was not asked or did not answer: go online once, and "
            "leave HF_HUB_OFFLINE unset."
        ) from error
    except (errors.HFValidationError, errors.HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{name} could not be fetched ({reason}): try again later.") from error
    if not any((folder / file).is_file() for file in WEIGHTS):
        raise CheckpointError(f"{name} holds no weights ({', '.join(WEIGHTS)}): give another repository.")
    return folder
