"""Networks that a folder keeps: trained once."""

import logging
from collections.abc import Callable
from pathlib import Path

from torch import nn

from hf_infodist.models.demo.train import save_timm

logger = logging.getLogger(__name__)


def kept(
    network: nn.Module, file: Path, train: Callable[[], object], save: Callable[[nn.Module, Path], None] | None = None
) -> nn.Module:
    """Give a network the weights of a file, which is written first if it is not there; in eval mode on the CPU.

    Args:
        network: As it is before it is trained.
        file: Of safetensors.
        train: Trains the network in place.
        save: Writes the folder of the file; by default the weights alone.
    """
    from safetensors.torch import load_file, save_file

    if not file.exists():
        train()
        file.parent.mkdir(parents=True, exist_ok=True)
        if save:
            save(network.cpu(), file.parent)
        else:
            save_file(network.cpu().state_dict(), file)
        logger.info("%s is there", file)
    network.load_state_dict(load_file(file))
    return network.eval()


def save_loadable(network: nn.Module, folder: Path) -> None:
    """Write the weights; where timm knows the architecture, in its layout, so that other commands can load it."""
    from safetensors.torch import save_file

    if hasattr(network, "model_arguments"):
        save_timm(network, network.model_arguments, folder)  # type: ignore[arg-type]
    else:
        save_file(network.state_dict(), folder / "model.safetensors")
