"""The model that is fine-tuned: an encoder and a light head without BatchNorm (section 9.3)."""

from torch import Tensor, nn

from stradavit.evaluation.recipe import linear_head


class Head(nn.Module):
    """LayerNorm, dropout, linear layer.

    Parameters
    ----------
    dim, n_classes : width of the readout, number of logits
    norm_eps : of the encoder's own norms
    dropout : before the linear layer
    seed, fold : which draw of the linear layer
    """

    def __init__(
        self, dim: int, n_classes: int, norm_eps: float, dropout: float, seed: int, fold: int
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.classifier = linear_head(dim, n_classes, seed, fold)

    def forward(self, readout: Tensor) -> Tensor:
        """(b, dim) to (b, n_classes) logits."""
        logits: Tensor = self.classifier(self.dropout(self.norm(readout)))
        return logits


class Classifier(nn.Module):
    """An encoder and a head.

    Parameters
    ----------
    encoder : module with ``readout(pixels) -> (b, dim)``: the mean over patch tokens, or DINOv2's
        own pooled representation
    head : what makes logits of it
    """

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, pixels: Tensor) -> Tensor:
        """(b, c, side, side) normalised pixels to (b, n_classes) float32 logits."""
        readout: Tensor = self.encoder.readout(pixels)  # type: ignore[operator]
        logits: Tensor = self.head(readout)
        return logits.float()
