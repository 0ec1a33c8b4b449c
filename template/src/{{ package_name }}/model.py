"""The network, made to be replaced."""

from __future__ import annotations

from torch import Tensor, nn
from torch.utils.data import TensorDataset


class Net(nn.Module):
    """A small convolutional classifier.

    Shapes:
        images: (batch, channels, height, width), of any size from 4 x 4.
        returns: (batch, classes), unnormalised log-probabilities.
    """

    def __init__(
        self, channels: int = 1, classes: int = 10, width: int = 32, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
        )
        self.classify = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * width, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.features(images))
        return logits


def network(dataset: TensorDataset) -> nn.Module:
    """Return the network for the images and labels of a data set."""
    images, labels = dataset.tensors
    return Net(channels=images.shape[1], classes=int(labels.max()) + 1)
