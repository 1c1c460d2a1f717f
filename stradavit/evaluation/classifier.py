"""The model that is fine-tuned: an encoder and a light head without BatchNorm (section 9.3)."""

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """LayerNorm, dropout, linear layer.

    Parameters
    ----------
    weight : (n_classes, dim) initial weights of the linear layer; its bias starts at 0
    norm_eps : of the LayerNorm
    dropout : share of the normalised readout to drop
    """

    def __init__(self, weight: Tensor, norm_eps: float, dropout: float) -> None:
        super().__init__()
        n_classes, dim = weight.shape
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)
        # The constructor's own draw would move the global stream, only to be overwritten.
        self.classifier: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, dim, n_classes
        )
        with torch.no_grad():
            self.classifier.weight.copy_(weight)
            self.classifier.bias.zero_()

    def forward(self, readout: Tensor) -> Tensor:
        """(b, dim) to (b, n_classes) logits."""
        logits: Tensor = self.classifier(self.dropout(self.norm(readout)))
        return logits


class Classifier(nn.Module):
    """An encoder and a head, whose norm has the eps of the encoder's norms.

    Parameters
    ----------
    encoder : module with ``readout(pixels) -> (b, dim)``: the mean over patch tokens, or DINOv2's
        own pooled representation
    head_weight : (n_classes, dim) initial weights of the linear layer
    dropout : before the linear layer
    """

    def __init__(self, encoder: nn.Module, head_weight: Tensor, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        norms = (module for module in encoder.modules() if isinstance(module, nn.LayerNorm))
        self.head = Head(head_weight, next(norms).eps, dropout)

    def forward(self, pixels: Tensor) -> Tensor:
        """(b, c, side, side) normalised pixels to (b, n_classes) float32 logits."""
        readout: Tensor = self.encoder.readout(pixels)  # type: ignore[operator]
        logits: Tensor = self.head(readout)
        return logits.float()
