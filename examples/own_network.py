"""CC-Loss with your own network in your own training loop."""

import torch
from digits import load
from torch import Tensor, nn
from torch.utils.data import DataLoader

import ccloss


class Network(nn.Module):
    """Any backbone that ends in a feature map or in vectors, and the head on top of it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.head = ccloss.ClassifierHead(in_features=256, hidden_features=64, num_classes=10)

    def forward(self, images: Tensor) -> ccloss.Output:
        """(N, 1, 8, 8) images to logits, features and attention."""
        output: ccloss.Output = self.head(self.backbone(images))
        return output


torch.manual_seed(0)
train, test = load()
network, loss = Network(), ccloss.CCLoss()
optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)

for epoch in range(3):
    for images, labels in DataLoader(train, batch_size=32, shuffle=True):
        optimizer.zero_grad()
        loss(network(images), labels).backward()
        optimizer.step()
    with torch.no_grad():
        images, labels = test.tensors
        output = network(images)
    accuracy = (output.logits.argmax(1) == labels).float().mean()
    ratio = ccloss.functional.channel_correlation(output.attention, labels, reduction="mean")
    print(f"epoch {epoch + 1}: accuracy {accuracy:.3f}, attention ratio {ratio:.3f}")
