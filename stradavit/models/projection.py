"""The projection head of the contrastive objective."""

import torch.nn.functional as F
from torch import Tensor, nn

from stradavit.models.initial import generator_for


class ProjectionHead(nn.Module):
    """Two-layer MLP from the readout to the unit sphere the contrastive loss lives on.

    Linear, LayerNorm, ReLU, Linear, BatchNorm without affine, L2 normalisation (paper, section
    5.2). Turn the BatchNorm into SyncBatchNorm when there are several devices.

    Parameters
    ----------
    width : of the readout
    hidden, output : of the two linear layers
    output_norm : whether the output passes the BatchNorm; off for DINOv2 starts
    seed : decides the weights: truncated normal of std 0.02, zero bias
    """

    def __init__(self, width: int, hidden: int, output: int, output_norm: bool, seed: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.ln1 = nn.LayerNorm(hidden, eps=1e-6)
        self.fc2 = nn.Linear(hidden, output)
        self.bn = nn.BatchNorm1d(output, eps=1e-4, affine=False) if output_norm else nn.Identity()
        for name in ("fc1", "fc2"):
            layer = self.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            generator = generator_for(seed, f"projector_head.{name}.weight")
            nn.init.trunc_normal_(layer.weight, std=0.02, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings of unit length.

        Parameters
        ----------
        features : (n, width) float, readouts of n views

        Returns
        -------
        (n, output) float32: normalised in full precision also under autocast
        """
        hidden = F.relu(self.ln1(self.fc1(features)))
        return F.normalize(self.bn(self.fc2(hidden).float()), dim=-1)
