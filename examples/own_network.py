"""CC-Loss in a training loop of one's own, with a network of one's own, on real 8x8 digits."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import ccloss


class Network(nn.Module):
    """Any backbone that ends in a map or in vectors, and the head on top of it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.head = ccloss.ClassifierHead(in_features=256, hidden_features=64, num_classes=10)

    def forward(self, images: Tensor) -> ccloss.Output:
        """(N, 1, 8, 8) -> logits, features and attention."""
        output: ccloss.Output = self.head(self.backbone(images))
        return output


def main() -> None:
    """Trains for a few epochs and prints how tight attention has become."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    network, loss = Network(), ccloss.CCLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(5):
        for rows in torch.randperm(1500).split(32):
            terms = loss.terms(network(images[rows]), labels[rows])
            optimizer.zero_grad()
            terms["total"].backward()
            optimizer.step()
        with torch.no_grad():
            output = network(images[1500:])
        accuracy = (output.logits.argmax(1) == labels[1500:]).float().mean()
        ratio = ccloss.functional.channel_correlation(
            output.attention, labels[1500:], reduction="mean"
        )
        print(f"epoch {epoch + 1}: accuracy {accuracy:.3f}, attention ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
