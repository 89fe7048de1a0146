"""Training data that stops a run in the middle, for several test files."""

from torch import Tensor


class Killed(Exception):
    pass


class Failing:
    """Gives batches of `data`, and raises Killed when the one numbered `at` is drawn."""

    def __init__(self, data: Tensor, at: int):
        self.data, self.at, self.drawn = data, at, 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> Tensor:
        return self.data[number]

    def __getitems__(self, numbers: list[int]) -> Tensor:
        self.drawn += 1
        if self.drawn == self.at:
            raise Killed
        return self.data[numbers]
